export function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" width="24" height="24" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <path d="M7 16h6M19 16h6" />
      <circle cx="16" cy="16" r="3.5" />
    </svg>
  );
}
