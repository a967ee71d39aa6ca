import type { DispatchError, FieldFault } from '../../dispatch-client/dispatch-error.ts';

/** What went wrong, with all that support would ask for. `faults`: those that stand nowhere else. */
export function ProblemBox(props: {
  readonly problem: DispatchError;
  readonly faults?: readonly FieldFault[];
}) {
  const { message, code, trackingId } = props.problem;
  const faults = props.faults ?? props.problem.faults;
  return (
    <div class="box bad" role="alert" tabIndex={-1}>
      <p>
        <strong>{message}.</strong>
      </p>
      {faults.length > 0 && (
        <ul>
          {faults.map(fault => (
            <li key={`${fault.path} ${fault.message}`}>
              {fault.path !== '' && <code>{fault.path}</code>} {fault.message}
            </li>
          ))}
        </ul>
      )}
      <p class="small">
        {code !== '' && <code>{code}</code>}
        {trackingId !== undefined && (
          <>
            {' '}
            · tracking id <code>{trackingId}</code>
          </>
        )}
      </p>
    </div>
  );
}

/** Above what is live and could not be read just now. */
export function StaleNote({ problem }: { readonly problem: DispatchError | undefined }) {
  if (problem === undefined) return null;
  return (
    <p class="box warn" role="status">
      {problem.message}. What is shown may be old; this page goes on trying.
    </p>
  );
}
