import type { DispatchError, FieldFault } from '../../dispatch-client/dispatch-error.ts';
import type { Live } from './live.ts';

/** What went wrong, with all that support would ask for. `faults`: those that stand nowhere else. */
export function ProblemBox(props: {
  readonly problem: DispatchError;
  readonly faults?: readonly FieldFault[];
}) {
  const { code, trackingId } = props.problem;
  const faults = props.faults ?? props.problem.faults;
  return (
    <div class="box bad" role="alert" tabIndex={-1}>
      <p>
        <strong>{messageOf(props.problem)}.</strong>
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

/** Above what is live: that it comes, why it does not, or that it could not be read again just now. */
export function LiveNote({ value, problem }: Pick<Live<unknown>, 'value' | 'problem'>) {
  if (problem === undefined) return value === undefined ? <p class="quiet">Loading…</p> : null;
  if (value === undefined) return <ProblemBox problem={problem} />;
  return (
    <p class="box warn" role="status">
      {problem.message}. What is shown may be old; this page goes on trying.
    </p>
  );
}

/** The server speaks to programs, which look into 'errors'. */
function messageOf({ code, message }: DispatchError): string {
  return code === 'RequestMalformed' ? 'Something is not as it must be' : message;
}
