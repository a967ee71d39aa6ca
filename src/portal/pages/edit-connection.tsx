import { useState } from 'preact/hooks';
import { faultAt } from '../api/problem.ts';
import type { Connection } from '../api/records.ts';
import { usePlace } from '../place.ts';
import { pinKey } from '../sealing.ts';
import { Dialog } from '../ui/dialog.tsx';
import { Checkbox, TextField, textOf } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { notify } from '../ui/parts.tsx';
import { CredentialFields, sealedCredentials, VaultField } from './credential-fields.tsx';
import { KeyCheck, useTargetKey } from './key-check.tsx';
import { TargetField, targetOf, targetText } from './target-field.tsx';

interface EditProps {
  readonly connection: Connection;
  readonly onDone: () => void;
  readonly onClose: () => void;
}

export function EditConnection({ connection: shown, onDone, onClose }: EditProps) {
  // As it was when people began to edit it: what somebody else changed meanwhile is not undone unseen.
  const [connection] = useState(shown);
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

/** New credentials take the place of the old ones, which are kept nowhere; another target takes new ones. */
export function NewCredentials({ connection: shown, onDone, onClose }: EditProps) {
  const [connection] = useState(shown);
  const { api, path, environment, directory } = usePlace();
  const [chosen, setChosen] = useState(targetText(connection.target));
  const target = targetOf(chosen);
  const isSealed = connection.kind === 'password';
  const checked = useTargetKey(isSealed ? target : undefined);
  const credentialVersion = connection.credentialVersion + 1;

  const save = async (values: FormData): Promise<void> => {
    if (target === undefined) throw faultAt('target', 'must be chosen');
    const place = { id: connection.id, credentialVersion };
    await api.act('PATCH', `${path}/connections/${connection.id}`, {
      ifMatch: connection.version,
      body: {
        target,
        credentialVersion,
        ...(isSealed
          ? { envelope: await sealedCredentials(checked.key, place, values) }
          : { vaultRef: textOf(values, 'vaultRef') }),
      },
    });
    if (checked.key !== undefined) pinKey(environment, target, checked.key.holder.kid);
    notify('The new credentials are in use');
    directory.reload();
    onDone();
    onClose();
  };
  return (
    <Dialog title={`New credentials for ${connection.name}`} onClose={onClose}>
      <Form
        submit={isSealed ? 'Seal and save' : 'Save'}
        isBlocked={isSealed && checked.key === undefined}
        onCancel={onClose}
        onSubmit={save}
      >
        <TargetField value={chosen} onChange={setChosen} />
        {isSealed ? <CredentialFields /> : <VaultField />}
        {isSealed && target !== undefined && <KeyCheck target={target} checked={checked} />}
      </Form>
    </Dialog>
  );
}
