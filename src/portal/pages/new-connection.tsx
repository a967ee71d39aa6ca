import { useState } from 'preact/hooks';
import { faultAt } from '../api/problem.ts';
import type { Target } from '../api/records.ts';
import { newId, usePlace, type Directory } from '../place.ts';
import { go, href, route } from '../route.ts';
import { pinKey } from '../sealing.ts';
import { Checkbox, Select, TextField, textOf } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { notify, PageHead } from '../ui/parts.tsx';
import { ActsAsWarning, CredentialFields, sealedCredentials } from './credential-fields.tsx';
import { KeyCheck, useTargetKey } from './key-check.tsx';

/** Creates a connection. Its credentials are sealed here; nothing of them is sent in any other form. */
export function NewConnectionPage() {
  const { api, path, environment, directory } = usePlace();
  const [chosen, setChosen] = useState(route.value.query.get('target') ?? '');
  const [kind, setKind] = useState('password');
  // Credentials are bound to the id, so it must be there before they are sealed.
  const [id] = useState(newId);
  const target = targetOf(chosen);
  const checked = useTargetKey(kind === 'password' ? target : undefined);

  const create = async (values: FormData): Promise<void> => {
    if (target === undefined) throw faultAt('target', 'must be chosen');
    const isSealed = kind === 'password';
    const envelope = isSealed
      ? await sealedCredentials(checked.key, { id, credentialVersion: 1 }, values)
      : undefined;
    await api.act('POST', `${path}/connections`, {
      idempotencyKey: id,
      body: {
        id,
        name: textOf(values, 'name') ?? '',
        kind,
        target,
        envelope,
        accountName: values.has('tellsAccount') ? textOf(values, 'account') : undefined,
        vaultRef: textOf(values, 'vaultRef'),
        mayReseal: isSealed ? values.has('mayReseal') : undefined,
      },
    });
    if (envelope !== undefined) pinKey(environment, target, envelope.kid);
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
        <TextField label="Name" name="name" isRequired hasFocus />
        <Select
          label="Target"
          name="target"
          isRequired
          value={chosen}
          options={targetOptions(directory)}
          onChange={setChosen}
          hint={targetHint(directory)}
        />
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
        {kind === 'vaultRef' && (
          <TextField
            label="Reference"
            name="vaultRef"
            isRequired
            hint="Where the machine finds the secret, such as the path in its vault. Not the secret itself."
          />
        )}
      </Form>
    </>
  );
}

function targetOf(text: string): Target | undefined {
  const [kind, id] = text.split(':');
  if (id === undefined || id === '') return undefined;
  return kind === 'machine' || kind === 'group' ? { kind, id } : undefined;
}

/** Groups without a key cannot be sealed to. */
function targetOptions({ machines, groups }: Directory) {
  return [
    { value: '', label: 'Choose a machine or group' },
    ...[...machines.values()].map(({ id, name }) => ({
      value: `machine:${id}`,
      label: `${name} (machine)`,
    })),
    ...[...groups.values()]
      .filter(({ key }) => key !== undefined)
      .map(({ id, name }) => ({ value: `group:${id}`, label: `${name} (group)` })),
  ];
}

function targetHint({ groups }: Directory): string | undefined {
  const isMissing = [...groups.values()].some(({ key }) => key === undefined);
  return isMissing
    ? 'Groups that no machine has joined have no key yet, and are left out.'
    : undefined;
}
