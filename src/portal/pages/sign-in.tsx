import { DispatchError } from '../../dispatch-client/dispatch-error.ts';
import { signedOutBecause, signIn } from '../session.ts';
import { textOf, TextField } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { Logo } from '../ui/logo.tsx';
import { TrustNote } from '../ui/trust-note.tsx';

export function SignIn() {
  return (
    <main class="sign-in">
      <h1>
        <Logo /> Halfway
      </h1>
      {signedOutBecause.value !== undefined && (
        <p class="box warn" role="status">
          You were signed out. {signedOutBecause.value}.
        </p>
      )}
      <Form
        submit="Sign in"
        onSubmit={async values => {
          try {
            await signIn((textOf(values, 'token') ?? '').trim());
          } catch (error) {
            throw error instanceof DispatchError && error.status === 401 ? atToken(error) : error;
          }
        }}
      >
        <TextField
          label="API token"
          name="token"
          type="password"
          isRequired
          hasFocus
          hint={
            <>
              Begins with <code>hwt_</code>. An administrator makes one; <code>halfway dev</code>{' '}
              prints one when it starts. It stays in this tab until you sign out or close it.
            </>
          }
        />
      </Form>
      <TrustNote />
    </main>
  );
}

/** The same problem, said beside the field. */
function atToken({ message, status, code, trackingId }: DispatchError): DispatchError {
  const fault = 'This token is not taken: it is mistyped, has expired or was deleted';
  return new DispatchError(code, message, {
    ...(status === undefined ? {} : { status }),
    trackingId,
    faults: [{ path: 'token', message: fault }],
  });
}
