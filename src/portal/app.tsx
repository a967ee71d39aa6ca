import { Frame } from './frame.tsx';
import { SignIn } from './pages/sign-in.tsx';
import { session } from './session.ts';
import { Notices } from './ui/parts.tsx';

/** The whole page: asks for a token, or shows what is behind it. */
export function App() {
  const state = session.value;
  return (
    <>
      {state === undefined && <SignIn />}
      {state === 'opening' && (
        <p class="empty" role="status">
          Signing in…
        </p>
      )}
      {typeof state === 'object' && <Frame {...state} />}
      <Notices />
    </>
  );
}
