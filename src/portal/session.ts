import { signal } from '@preact/signals';
import { Api } from './api/client.ts';
import { meSchema, type Me } from './api/records.ts';

/** Who uses the page. The token is in this tab's session storage alone: it is gone with the tab. */
export interface Session {
  readonly api: Api;
  readonly me: Me;
}

const TOKEN_ITEM = 'halfway.token';

/** Undefined: signed out. `'opening'`: a token is there, and is being tried. */
export const session = signal<Session | 'opening' | undefined>(
  sessionStorage.getItem(TOKEN_ITEM) === null ? undefined : 'opening',
);
/** Why the page asks for a token again. */
export const signedOutBecause = signal<string | undefined>(undefined);

/** Rejects with an `DispatchError` when the token is not taken; then it is not kept. */
export async function signIn(token: string): Promise<void> {
  const probe = new Api(token, () => undefined);
  const me = await probe.get(meSchema, '/me');
  sessionStorage.setItem(TOKEN_ITEM, token);
  signedOutBecause.value = undefined;
  const api = new Api(token, () =>
    signOut('The token is not taken any more: it expired or was deleted'),
  );
  session.value = { api, me };
}

export function signOut(because?: string): void {
  sessionStorage.removeItem(TOKEN_ITEM);
  signedOutBecause.value = because;
  session.value = undefined;
}

/** Goes on after a reload of the page. */
export async function resumeSession(): Promise<void> {
  const token = sessionStorage.getItem(TOKEN_ITEM);
  if (token === null) return;
  try {
    await signIn(token);
  } catch (error) {
    signOut(error instanceof Error ? error.message : undefined);
  }
}
