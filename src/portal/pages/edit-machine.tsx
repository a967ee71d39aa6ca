import { useState } from 'preact/hooks';
import type { Machine } from '../api/records.ts';
import { usePlace } from '../place.ts';
import { Dialog } from '../ui/dialog.tsx';
import { Checkbox, NumberField, numberOf, TextArea, TextField, textOf } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { notify } from '../ui/parts.tsx';

const UNATTENDED_MAX = 10;

export function EditMachine(props: {
  readonly machine: Machine;
  readonly onDone: () => void;
  readonly onClose: () => void;
}) {
  const { api, path } = usePlace();
  // As it was when people began to edit it: what somebody else changed meanwhile is not undone unseen.
  const [machine] = useState(props.machine);
  return (
    <Dialog title={`Edit ${machine.name}`} onClose={props.onClose}>
      <Form
        submit="Save"
        onCancel={props.onClose}
        onSubmit={async values => {
          await api.act('PATCH', `${path}/machines/${machine.id}`, {
            ifMatch: machine.version,
            body: {
              name: textOf(values, 'name') ?? '',
              description: textOf(values, 'description') ?? '',
              allocatedBots: numberOf(values, 'allocatedBots'),
              reuseSessions: values.has('reuseSessions'),
            },
          });
          notify('Saved');
          props.onDone();
          props.onClose();
        }}
      >
        <TextField label="Name" name="name" value={machine.name} isRequired hasFocus />
        <TextArea label="Description" name="description" value={machine.description} />
        <NumberField
          label="Unattended runs at once"
          name="allocatedBots"
          value={machine.allocatedBots}
          min={0}
          max={UNATTENDED_MAX}
        />
        <Checkbox
          label="Reuse sessions"
          name="reuseSessions"
          isChecked={machine.reuseSessions}
          hint="After an unattended run its session is locked and used for the next, in place of signing out."
        />
      </Form>
    </Dialog>
  );
}
