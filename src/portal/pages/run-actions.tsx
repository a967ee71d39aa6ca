import { toProblem } from '../api/problem.ts';
import type { Run } from '../api/records.ts';
import { usePlace } from '../place.ts';
import { Confirm, DialogButton } from '../ui/confirm.tsx';
import { notify } from '../ui/parts.tsx';
import { isOver } from '../words.ts';

interface ActionProps {
  readonly run: Run;
  readonly path: string;
  readonly onChanged: () => void;
}

/** What may be done with a run in the state it is in. */
export function RunActions({ run, path, onChanged }: ActionProps) {
  if (isOver(run.state)) return null;
  return run.state === 'Queued' ? (
    <QueuedActions run={run} path={path} onChanged={onChanged} />
  ) : (
    <StartedActions run={run} path={path} onChanged={onChanged} />
  );
}

function QueuedActions({ run, path, onChanged }: ActionProps) {
  const { api } = usePlace();
  const act = async (method: string, at: string, body?: object): Promise<void> => {
    try {
      await api.act(method, at, {
        ...(body === undefined ? {} : { body }),
        ...(run.version === undefined ? {} : { ifMatch: run.version }),
      });
    } catch (error) {
      notify(toProblem(error).message);
    }
    onChanged();
  };
  const isTop = run.topScore !== undefined;
  const other = run.priority === 'high' ? 'normal' : 'high';
  return (
    <>
      <button
        type="button"
        onClick={() => void act('POST', `${path}:${isTop ? 'undo-move' : 'move-to-top'}`)}
      >
        {isTop ? 'Back to its place' : 'Move to top'}
      </button>
      <button type="button" onClick={() => void act('PATCH', path, { priority: other })}>
        Make priority {other}
      </button>
      <End
        label="Cancel…"
        title="Cancel the run?"
        action="Cancel run"
        at={`${path}:cancel`}
        onChanged={onChanged}
        text="It waits and has not been started: it is taken out of the queue."
      />
    </>
  );
}

function StartedActions({ run, path, onChanged }: ActionProps) {
  return (
    <>
      {run.state !== 'SafeStopping' && run.state !== 'Cancelling' && (
        <End
          label="Ask to stop…"
          title="Ask the job to stop?"
          action="Ask to stop"
          at={`${path}:safe-stop`}
          onChanged={onChanged}
          text="It ends at the next place where it looks for this; a job that never looks goes on."
        />
      )}
      <End
        label="Stop…"
        title="Stop the run?"
        action="Stop run"
        at={`${path}:cancel`}
        body={{ mode: 'stop' }}
        onChanged={onChanged}
        text="Its programs are told to end, and are killed when they have not after 10 seconds."
      />
      <End
        label="Kill…"
        title="Kill the run?"
        action="Kill run"
        at={`${path}:cancel`}
        body={{ mode: 'kill' }}
        onChanged={onChanged}
        text="Its programs are killed at once. What they were writing may be left half done."
      />
    </>
  );
}

function End(props: {
  readonly label: string;
  readonly title: string;
  readonly action: string;
  readonly text: string;
  readonly at: string;
  readonly body?: object;
  readonly onChanged: () => void;
}) {
  const { api } = usePlace();
  return (
    <DialogButton
      label={props.label}
      dialog={close => (
        <Confirm
          title={props.title}
          action={props.action}
          onClose={close}
          onConfirm={async () => {
            await api.act('POST', props.at, { body: props.body ?? {} });
            props.onChanged();
          }}
        >
          <p>{props.text}</p>
        </Confirm>
      )}
    />
  );
}
