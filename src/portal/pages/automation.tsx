import type { ComponentChildren } from 'preact';
import type { GenericSchema } from 'valibot';
import { toProblem } from '../api/problem.ts';
import { listOf } from '../api/records.ts';
import { usePlace } from '../place.ts';
import { Confirm, DialogButton } from '../ui/confirm.tsx';
import { useLive } from '../ui/live.ts';
import { Empty, notify, PageHead } from '../ui/parts.tsx';
import { LiveNote } from '../ui/problem-box.tsx';
import { NoConnection } from './no-connection.tsx';

// What schedules and triggers have in common.

interface Automation {
  readonly id: string;
  readonly version: number;
  readonly name: string;
  readonly isEnabled: boolean;
}

interface AutomationProps {
  readonly record: Automation;
  readonly kind: 'schedules' | 'triggers';
  readonly onChanged: () => void;
}

/** What there is of one kind, with the way to another one where a connection is there that it can run with. */
export function AutomationPage<Item>(props: {
  readonly kind: AutomationProps['kind'];
  readonly schema: GenericSchema<unknown, Item>;
  readonly title: string;
  /** One of them: `a schedule`. */
  readonly one: string;
  /** What one is, said where there is none. */
  readonly explanation: string;
  readonly create: (reload: () => void, close: () => void) => ComponentChildren;
  readonly table: (rows: readonly Item[], reload: () => void) => ComponentChildren;
}) {
  const { kind, schema, title, one } = props;
  const { api, path, directory } = usePlace();
  const { value, problem, reload } = useLive(kind, signal =>
    api.get(listOf(schema), `${path}/${kind}`, { query: { limit: 200 }, signal }),
  );
  const isPossible = directory.connections.size > 0;
  return (
    <>
      <PageHead title={title}>
        {isPossible && (
          <DialogButton
            label={`Create ${one}`}
            class="primary"
            dialog={close => props.create(reload, close)}
          />
        )}
      </PageHead>
      <LiveNote value={value} problem={problem} />
      {directory.isLoaded && !isPossible && <NoConnection />}
      {value?.items.length === 0 && isPossible && (
        <Empty title={`There is no ${one.replace(/^a /, '')} here`}>
          <p>{props.explanation}</p>
        </Empty>
      )}
      {value !== undefined && value.items.length > 0 && props.table(value.items, reload)}
    </>
  );
}

export function EnabledSwitch({ record, kind, onChanged }: AutomationProps) {
  const { api, path } = usePlace();
  const change = async (): Promise<void> => {
    try {
      await api.act('PATCH', `${path}/${kind}/${record.id}`, {
        ifMatch: record.version,
        body: { isEnabled: !record.isEnabled },
      });
    } catch (error) {
      notify(toProblem(error).message);
    }
    onChanged();
  };
  return (
    <button
      type="button"
      role="switch"
      aria-checked={record.isEnabled}
      onClick={() => void change()}
    >
      On<span class="unseen">: {record.name}</span>
    </button>
  );
}

export function DeleteAutomation({ record, kind, onChanged }: AutomationProps) {
  const { api, path } = usePlace();
  return (
    <DialogButton
      label="Delete…"
      dialog={close => (
        <Confirm
          title={`Delete “${record.name}”?`}
          action="Delete"
          onClose={close}
          onConfirm={async () => {
            await api.act('DELETE', `${path}/${kind}/${record.id}`, { ifMatch: record.version });
            onChanged();
          }}
        >
          <p>Runs that it has started go on.</p>
        </Confirm>
      )}
    />
  );
}
