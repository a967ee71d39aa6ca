import type { Envelope } from '../../crypto/envelope.ts';
import { accountOf, sealCredentials, type TargetKey } from '../../dispatch-client/sealing.ts';
import { faultAt } from '../api/problem.ts';
import { TextField, textOf } from '../ui/fields.tsx';

/** An account to sign in as. What is typed here leaves the page sealed, or not at all. */
export function CredentialFields() {
  return (
    <div class="row">
      <TextField
        label="Account"
        name="account"
        isRequired
        hint={
          <>
            <code>user</code>, <code>user@domain</code> or <code>DOMAIN\user</code>, as it signs in
            at the machine
          </>
        }
      />
      <TextField
        label="Password"
        name="password"
        type="password"
        isRequired
        hint="Sealed in this browser before anything is sent."
      />
    </div>
  );
}

export function VaultField() {
  return (
    <TextField
      label="Reference"
      name="vaultRef"
      isRequired
      hint="Where the machine finds the secret, such as the path in its vault. Not the secret itself."
    />
  );
}

/** What was typed into `CredentialFields`, sealed: all of it that may leave this page. */
export async function sealedCredentials(
  key: TargetKey | undefined,
  place: { readonly id: string; readonly credentialVersion: number },
  values: FormData,
): Promise<Envelope> {
  if (key === undefined) throw faultAt('target', 'has no key to seal to');
  const account = accountOf(textOf(values, 'account') ?? '');
  if (account === undefined) throw faultAt('account', 'must be user, user@domain or DOMAIN\\user');
  return sealCredentials(key, place, { ...account, password: textOf(values, 'password') ?? '' });
}

/** Source: job-dispatch.md section 6. */
export function ActsAsWarning() {
  return (
    <p class="box warn">
      <strong>Whoever may use a connection, or edit what runs with it, acts as its account</strong>{' '}
      on the target, without knowing the password. Give it an account that may do no more than its
      jobs need.
    </p>
  );
}
