import { useState } from 'preact/hooks';
import type { Target } from '../api/records.ts';
import { connectionsTo, usePlace } from '../place.ts';
import { go, href } from '../route.ts';
import { Dialog } from '../ui/dialog.tsx';

/**
 * Starts a run on a machine or group. Without a connection to it that is refused, with the way to one.
 * Source: job-dispatch.md section 1, row A14.
 */
export function RunHereButton({
  target,
  name,
}: {
  readonly target: Target;
  readonly name: string;
}) {
  const { environment, directory } = usePlace();
  const [isRefused, setRefused] = useState(false);
  const connections = connectionsTo(directory, target);
  const toConnection = href(environment, 'connections', 'new', {
    target: `${target.kind}:${target.id}`,
  });
  return (
    <>
      <button
        type="button"
        class="primary"
        disabled={!directory.isLoaded}
        onClick={() => {
          const [only] = connections;
          if (only === undefined) setRefused(true);
          else
            go(
              href(environment, 'runs', 'new', {
                target: `${target.kind}:${target.id}`,
                connection: connections.length === 1 ? only.id : undefined,
              }),
            );
        }}
      >
        Run a job
      </button>
      {isRefused && (
        <Dialog title="Nothing can run here yet" onClose={() => setRefused(false)}>
          <p>
            A run needs a connection: the account it runs as on {name}, with credentials that only{' '}
            {target.kind === 'machine' ? 'that machine' : 'the machines of that group'} can open.
            There is none to {name} yet.
          </p>
          <div class="buttons">
            <a class="button primary" href={toConnection} autofocus>
              Create a connection
            </a>
            <button type="button" onClick={() => setRefused(false)}>
              Not now
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
