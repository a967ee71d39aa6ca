import { useState } from 'preact/hooks';
import {
  codeSchema,
  endpointsSchema,
  listOf,
  newCodeSchema,
  type ActivationCode,
} from '../api/records.ts';
import { usePlace } from '../place.ts';
import { Confirm, DialogButton } from '../ui/confirm.tsx';
import { Dialog } from '../ui/dialog.tsx';
import { NumberField, numberOf, Select, TextField, textOf } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { useLive } from '../ui/live.ts';
import { Ago, Copyable, Empty, PageHead } from '../ui/parts.tsx';
import { LiveNote } from '../ui/problem-box.tsx';
import { Table } from '../ui/table.tsx';
import { registerCommand } from './machine-commands.ts';

const HOURS_DEFAULT = 24;
const HOURS_MAX = 30 * 24;
const USES_MAX = 10_000;
const HOUR_SECONDS = 3_600;

export function CodesPage() {
  const { api, path, directory } = usePlace();
  const { value, problem, reload } = useLive('codes', signal =>
    api.get(listOf(codeSchema), `${path}/activation-codes`, { query: { limit: 200 }, signal }),
  );
  return (
    <>
      <PageHead title="Activation codes">
        <DialogButton
          label="Create a code"
          class="primary"
          dialog={close => <CreateCode onCreated={reload} onClose={close} />}
        />
      </PageHead>
      <p>
        With a code a computer registers itself as a machine of this environment, without anybody
        signing in there.
      </p>
      <LiveNote value={value} problem={problem} />
      {value?.items.length === 0 && (
        <Empty title="No code is valid now">
          <p>Create one, and run the command that comes with it on the computer.</p>
        </Empty>
      )}
      {value !== undefined && value.items.length > 0 && (
        <Table
          caption="Activation codes"
          rows={value.items}
          keyOf={({ id }) => id}
          columns={[
            { title: 'Name', cell: ({ name }) => name },
            { title: 'Expires', cell: ({ expiresAt }) => <Ago moment={expiresAt} /> },
            {
              title: 'For group',
              cell: ({ groupId }) =>
                groupId === undefined ? (
                  <span class="quiet">any</span>
                ) : (
                  (directory.groups.get(groupId)?.name ?? groupId)
                ),
            },
            { title: 'By', cell: ({ createdBy }) => <code>{createdBy}</code> },
            {
              title: 'Uses left',
              isNumber: true,
              cell: ({ usesLeft }: ActivationCode) => usesLeft,
            },
            {
              title: 'Withdraw',
              cell: code => <Withdraw code={code} onDone={reload} />,
            },
          ]}
        />
      )}
    </>
  );
}

function Withdraw({
  code,
  onDone,
}: {
  readonly code: ActivationCode;
  readonly onDone: () => void;
}) {
  const { api, path } = usePlace();
  return (
    <DialogButton
      label="Withdraw…"
      dialog={close => (
        <Confirm
          title={`Withdraw “${code.name}”?`}
          action="Withdraw"
          onClose={close}
          onConfirm={async () => {
            await api.act('DELETE', `${path}/activation-codes/${encodeURIComponent(code.id)}`);
            onDone();
          }}
        >
          <p>Nobody can register with it any more. Machines that did stay registered.</p>
        </Confirm>
      )}
    />
  );
}

function CreateCode(props: { readonly onCreated: () => void; readonly onClose: () => void }) {
  const { api, path, environment, directory } = usePlace();
  const [made, setMade] = useState<{ code: string; machineHost: string | undefined }>();
  if (made !== undefined) {
    return (
      <Dialog title="The code" onClose={props.onClose}>
        <p>This is the only time it is shown.</p>
        <Copyable text={made.code} label="activation code" />
        <p>On the computer run this, and give it the code when it asks:</p>
        <Copyable
          text={registerCommand(environment, made.machineHost)}
          label="command to register"
        />
        <div class="buttons">
          <button type="button" class="primary" onClick={props.onClose}>
            Done
          </button>
        </div>
      </Dialog>
    );
  }
  const groups = [...directory.groups.values()];
  return (
    <Dialog title="Create an activation code" onClose={props.onClose}>
      <Form
        submit="Create code"
        onCancel={props.onClose}
        onSubmit={async values => {
          const hours = numberOf(values, 'expiresInSeconds') ?? HOURS_DEFAULT;
          // Before there is a code, which could not be shown again.
          const { machineHost } = await api.get(endpointsSchema, '/endpoints');
          const { code } = await api.change(newCodeSchema, 'POST', `${path}/activation-codes`, {
            body: {
              name: textOf(values, 'name') ?? '',
              uses: numberOf(values, 'uses'),
              expiresInSeconds: hours * HOUR_SECONDS,
              groupId: textOf(values, 'groupId'),
            },
          });
          setMade({ code, machineHost });
          props.onCreated();
        }}
      >
        <TextField
          label="Name"
          name="name"
          isRequired
          hasFocus
          hint="For you to know it by, such as the room the computers are in."
        />
        <div class="row">
          <NumberField
            label="Valid for"
            name="expiresInSeconds"
            value={HOURS_DEFAULT}
            min={1}
            max={HOURS_MAX}
            unit="hours"
          />
          <NumberField label="Computers" name="uses" value={1} min={1} max={USES_MAX} />
        </div>
        <Select
          label="Group that they may join"
          name="groupId"
          options={[
            { value: '', label: 'none' },
            ...groups.map(({ id, name }) => ({ value: id, label: name })),
          ]}
        />
      </Form>
    </Dialog>
  );
}
