import { useState } from 'preact/hooks';
import { newTriggerSchema, triggerSchema, type Trigger } from '../api/automation-records.ts';
import { connectionName, newId, usePlace } from '../place.ts';
import { DialogButton } from '../ui/confirm.tsx';
import { Dialog } from '../ui/dialog.tsx';
import { NumberField, numberOf, TextField, textOf } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { Copyable } from '../ui/parts.tsx';
import { Table } from '../ui/table.tsx';
import { AutomationPage, DeleteAutomation, EnabledSwitch } from './automation.tsx';
import { JobFields, jobOf } from './job-fields.tsx';
import { hookUrl } from './machine-commands.ts';
import { limitsOf, RunLimits } from './run-limits.tsx';

const PER_MINUTE_DEFAULT = 60;
const PER_MINUTE_MAX = 600;

/** Runs that a signed request from elsewhere starts. */
export function TriggersPage() {
  return (
    <AutomationPage
      kind="triggers"
      schema={triggerSchema}
      title="Webhooks"
      one="a webhook"
      explanation="A webhook is an address that other programs post to, signed with a secret, to start a run."
      create={(reload, close) => <CreateTrigger onCreated={reload} onClose={close} />}
      table={(rows, reload) => <TriggerTable rows={rows} onChanged={reload} />}
    />
  );
}

function TriggerTable(props: {
  readonly rows: readonly Trigger[];
  readonly onChanged: () => void;
}) {
  const { environment, directory } = usePlace();
  return (
    <Table
      caption="Webhooks"
      rows={props.rows}
      keyOf={({ id }) => id}
      columns={[
        {
          title: 'Name',
          cell: ({ name, run }) => (
            <>
              {name} <span class="note">{run.job.ref}</span>
            </>
          ),
        },
        { title: 'Connection', cell: ({ run }) => connectionName(directory, run.connectionId) },
        { title: 'Rights of', cell: ({ runOwner }) => <code>{runOwner}</code> },
        {
          title: 'A minute',
          isNumber: true,
          cell: ({ runsPerMinuteMax }) => `up to ${runsPerMinuteMax}`,
        },
        {
          title: 'Address',
          cell: ({ id }) => (
            <DialogButton
              label="Show"
              dialog={close => (
                <Dialog title="The address" onClose={close}>
                  <Copyable text={hookUrl(environment, id)} label="address of the webhook" />
                </Dialog>
              )}
            />
          ),
        },
        {
          title: 'Secret',
          cell: trigger => (
            <DialogButton
              label="New secret…"
              dialog={close => <NewSecret trigger={trigger} onClose={close} />}
            />
          ),
        },
        {
          title: 'Switch',
          cell: record => (
            <EnabledSwitch record={record} kind="triggers" onChanged={props.onChanged} />
          ),
        },
        {
          title: 'Delete',
          cell: record => (
            <DeleteAutomation record={record} kind="triggers" onChanged={props.onChanged} />
          ),
        },
      ]}
    />
  );
}

function NewSecret({
  trigger,
  onClose,
}: {
  readonly trigger: Trigger;
  readonly onClose: () => void;
}) {
  const { api, path } = usePlace();
  const [secret, setSecret] = useState<string>();
  if (secret !== undefined) {
    return <SecretDialog id={trigger.id} secret={secret} onClose={onClose} />;
  }
  return (
    <Dialog title={`A new secret for “${trigger.name}”?`} onClose={onClose}>
      <Form
        submit="Make a new secret"
        onCancel={onClose}
        onSubmit={async () => {
          const at = `${path}/triggers/${trigger.id}:rotate-secret`;
          setSecret((await api.change(newTriggerSchema, 'POST', at)).secret);
        }}
      >
        <p>
          The present one is taken for a while yet, so that whoever uses it can change to the new
          one.
        </p>
      </Form>
    </Dialog>
  );
}

function SecretDialog(props: {
  readonly id: string;
  readonly secret: string;
  readonly onClose: () => void;
}) {
  const { environment } = usePlace();
  return (
    <Dialog title="The secret" onClose={props.onClose}>
      <p>This is the only time it is shown.</p>
      <Copyable text={props.secret} label="secret of the webhook" />
      <p>
        Post to this address, signed as Standard Webhooks are (<code>webhook-id</code>,{' '}
        <code>webhook-timestamp</code>, <code>webhook-signature</code>):
      </p>
      <Copyable text={hookUrl(environment, props.id)} label="address of the webhook" />
      <div class="buttons">
        <button type="button" class="primary" onClick={props.onClose}>
          Done
        </button>
      </div>
    </Dialog>
  );
}

function CreateTrigger(props: { readonly onCreated: () => void; readonly onClose: () => void }) {
  const { api, path, directory } = usePlace();
  const [idempotencyKey] = useState(newId);
  const [made, setMade] = useState<{ readonly id: string; readonly secret: string }>();
  if (made !== undefined) return <SecretDialog {...made} onClose={props.onClose} />;
  return (
    <Dialog title="Create a webhook" onClose={props.onClose}>
      <Form
        submit="Create webhook"
        onCancel={props.onClose}
        onSubmit={async values => {
          const { id, secret } = await api.change(newTriggerSchema, 'POST', `${path}/triggers`, {
            idempotencyKey,
            body: {
              name: textOf(values, 'name') ?? '',
              runsPerMinuteMax: numberOf(values, 'runsPerMinuteMax'),
              run: { ...jobOf(values), ...limitsOf(values) },
            },
          });
          setMade({ id, secret });
          props.onCreated();
        }}
      >
        <TextField label="Name" name="name" isRequired hasFocus />
        <NumberField
          label="Runs a minute at most"
          name="runsPerMinuteMax"
          value={PER_MINUTE_DEFAULT}
          min={1}
          max={PER_MINUTE_MAX}
        />
        <JobFields connections={[...directory.connections.values()]} at="run." />
        <RunLimits at="run." />
      </Form>
    </Dialog>
  );
}
