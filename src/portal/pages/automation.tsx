import { toProblem } from '../api/problem.ts';
import { usePlace } from '../place.ts';
import { Confirm, DialogButton } from '../ui/confirm.tsx';
import { notify } from '../ui/parts.tsx';

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
