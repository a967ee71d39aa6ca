import type { Connection } from '../api/records.ts';
import { usePlace } from '../place.ts';
import { pinKey } from '../sealing.ts';
import { Dialog } from '../ui/dialog.tsx';
import { Checkbox, TextField, textOf } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { notify } from '../ui/parts.tsx';
import { CredentialFields, sealedCredentials } from './credential-fields.tsx';
import { KeyCheck, useTargetKey } from './key-check.tsx';

interface EditProps {
  readonly connection: Connection;
  readonly onDone: () => void;
  readonly onClose: () => void;
}

export function EditConnection({ connection, onDone, onClose }: EditProps) {
  const { api, path, directory } = usePlace();
  return (
    <Dialog title={`Edit ${connection.name}`} onClose={onClose}>
      <Form
        submit="Save"
        onCancel={onClose}
        onSubmit={async values => {
          await api.act('PATCH', `${path}/connections/${connection.id}`, {
            ifMatch: connection.version,
            body: {
              name: textOf(values, 'name') ?? '',
              accountName: textOf(values, 'accountName'),
              mayReseal: values.has('mayReseal'),
            },
          });
          notify('Saved');
          directory.reload();
          onDone();
          onClose();
        }}
      >
        <TextField label="Name" name="name" value={connection.name} isRequired hasFocus />
        <TextField
          label="Account shown in lists"
          name="accountName"
          value={connection.accountName ?? ''}
          hint="For people; the sealed account is not changed by it."
        />
        <Checkbox
          name="mayReseal"
          label="The machine may seal it again to a new key of its own"
          isChecked={connection.mayReseal}
        />
      </Form>
    </Dialog>
  );
}

/** New credentials take the place of the old ones, which are kept nowhere. */
export function NewCredentials({ connection, onDone, onClose }: EditProps) {
  const { api, path, environment } = usePlace();
  const { target } = connection;
  const checked = useTargetKey(target);
  const credentialVersion = connection.credentialVersion + 1;
  return (
    <Dialog title={`New credentials for ${connection.name}`} onClose={onClose}>
      <Form
        submit="Seal and save"
        isBlocked={checked.key === undefined}
        onCancel={onClose}
        onSubmit={async values => {
          const place = { id: connection.id, credentialVersion };
          const envelope = await sealedCredentials(checked.key, place, values);
          await api.act('PATCH', `${path}/connections/${connection.id}`, {
            ifMatch: connection.version,
            body: { envelope, credentialVersion },
          });
          pinKey(environment, target, envelope.kid);
          notify('The new credentials are in use');
          onDone();
          onClose();
        }}
      >
        <CredentialFields />
        <KeyCheck target={target} checked={checked} />
      </Form>
    </Dialog>
  );
}
