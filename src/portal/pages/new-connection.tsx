import { useState } from 'preact/hooks';
import { faultAt } from '../api/problem.ts';
import { newId, usePlace } from '../place.ts';
import { go, href, route } from '../route.ts';
import { pinKey } from '../sealing.ts';
import { Checkbox, Select, TextField, textOf } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { notify, PageHead } from '../ui/parts.tsx';
import {
  ActsAsWarning,
  CredentialFields,
  sealedCredentials,
  VaultField,
} from './credential-fields.tsx';
import { KeyCheck, useTargetKey } from './key-check.tsx';
import { TargetField, targetOf } from './target-field.tsx';
import { useSameBody } from '../ui/same-body.ts';

/** Creates a connection. Its credentials are sealed here; nothing of them is sent in any other form. */
export function NewConnectionPage() {
  const { api, path, environment, directory } = usePlace();
  const [chosen, setChosen] = useState(route.value.query.get('target') ?? '');
  const [kind, setKind] = useState('password');
  // Credentials are bound to the id, so it must be there before they are sealed.
  const [id] = useState(newId);
  const target = targetOf(chosen);
  const sameBody = useSameBody<object>();
  const checked = useTargetKey(kind === 'password' ? target : undefined);

  const create = async (values: FormData): Promise<void> => {
    if (target === undefined) throw faultAt('target', 'must be chosen');
    const body = await sameBody(values, checked.key?.holder.kid, async () => ({
      id,
      name: textOf(values, 'name') ?? '',
      kind,
      target,
      ...(kind === 'password'
        ? {
            envelope: await sealedCredentials(checked.key, { id, credentialVersion: 1 }, values),
            mayReseal: values.has('mayReseal'),
          }
        : {}),
      accountName: values.has('tellsAccount') ? textOf(values, 'account') : undefined,
      vaultRef: textOf(values, 'vaultRef'),
    }));
    await api.act('POST', `${path}/connections`, { body, idempotencyKey: id });
    if (checked.key !== undefined) pinKey(environment, target, checked.key.holder.kid);
    notify('The connection was created');
    directory.reload();
    go(href(environment, 'connections', id));
  };

  return (
    <>
      <PageHead
        title="Create a connection"
        above={<a href={href(environment, 'connections')}>Connections</a>}
      />
      <ActsAsWarning />
      <Form
        submit="Create connection"
        isBlocked={target === undefined || (kind === 'password' && checked.key === undefined)}
        onCancel={() => go(href(environment, 'connections'))}
        onSubmit={create}
      >
        <TextField label="Name" name="name" isRequired />
        <TargetField value={chosen} onChange={setChosen} />
        <Select
          label="Signs in with"
          name="kind"
          value={kind}
          options={[
            { value: 'password', label: 'User name and password' },
            { value: 'vaultRef', label: 'A secret of a vault, which the machine fetches itself' },
            { value: 'none', label: 'Whoever is signed in (attended runs only)' },
          ]}
          onChange={setKind}
        />
        {kind === 'password' && (
          <>
            <CredentialFields />
            <Checkbox
              name="tellsAccount"
              label="Show the name of the account in lists"
              hint="Then the server knows the name; never the password."
            />
            <Checkbox
              name="mayReseal"
              label="The machine may seal it again to a new key of its own"
              hint="Otherwise you enter the credentials again when the key of the target is changed."
            />
            {target !== undefined && <KeyCheck target={target} checked={checked} />}
          </>
        )}
        {kind === 'vaultRef' && <VaultField />}
      </Form>
    </>
  );
}
