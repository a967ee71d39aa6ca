import { decodeBase64Url, encodeBase64Url } from './base64url.ts';
import { contextBytes, LABEL } from './context.ts';
import { PUBLIC_KEY_BYTES, seal, TAG_BYTES, type Binding, type Key, type Sealed } from './hpke.ts';

/** What a client sends and the server keeps. `kid` names the key that opens it. */
export interface Envelope {
  readonly v: 1;
  readonly suite: 'p256';
  readonly kid: string;
  readonly enc: string;
  readonly ct: string;
}

/** Whoever holds a key that credentials are sealed to. */
export interface KeyHolder {
  readonly tenant: string;
  readonly environment: string;
  readonly kind: 'machine' | 'group' | 'cluster';
  readonly id: string;
  readonly kid: string;
}

/** What an envelope is for; it opens for nothing else. */
export type Purpose =
  | {
      readonly type: 'credential';
      readonly object: 'connection' | 'datasource';
      readonly id: string;
      readonly version: number;
    }
  | { readonly type: 'input'; readonly runId: string; readonly name: string }
  | { readonly type: 'output'; readonly runId: string; readonly name: string }
  | { readonly type: 'challenge'; readonly machineId: string; readonly challengeId: string };

/** The bytes that bind an envelope. The reader makes them of what it knows by itself, never of what came with it. */
export function bindingOf(holder: KeyHolder, purpose: Purpose): Binding {
  return {
    info: contextBytes(LABEL, purpose.type),
    aad: contextBytes(
      LABEL,
      holder.tenant,
      holder.environment,
      holder.kind,
      holder.id,
      holder.kid,
      ...purposeFields(purpose),
    ),
  };
}

function purposeFields(purpose: Purpose): readonly string[] {
  switch (purpose.type) {
    case 'credential':
      return [purpose.object, purpose.id, String(purpose.version)];
    case 'challenge':
      return ['join', purpose.machineId, purpose.challengeId];
    default:
      return ['run', purpose.runId, purpose.name];
  }
}

/** Seals to a holder. `recipient` must be the key that `holder.kid` names. */
export async function sealEnvelope(
  recipient: Key,
  holder: KeyHolder,
  purpose: Purpose,
  plaintext: Uint8Array<ArrayBuffer>,
): Promise<Envelope> {
  const { enc, ct } = await seal(recipient, bindingOf(holder, purpose), plaintext);
  return {
    v: 1,
    suite: 'p256',
    kid: holder.kid,
    enc: encodeBase64Url(enc),
    ct: encodeBase64Url(ct),
  };
}

/** The bytes of an envelope; undefined when they cannot be an envelope's. */
export function sealedOf(envelope: Envelope): Sealed | undefined {
  const enc = decodeBase64Url(envelope.enc);
  const ct = decodeBase64Url(envelope.ct);
  if (enc === undefined || ct === undefined) return undefined;
  return enc.length === PUBLIC_KEY_BYTES && ct.length >= TAG_BYTES ? { enc, ct } : undefined;
}

/** An account to sign in as. */
export interface Credential {
  readonly domain: string;
  readonly user: string;
  readonly password: string;
}

/** Plaintexts are padded to a multiple of this, so that lengths of passwords do not show. */
const PADDED_BYTES = 256;

/** The plaintext of a credential's envelope: JSON and spaces. Wipe it after sealing. */
export function credentialBytes({ domain, user, password }: Credential): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(JSON.stringify({ d: domain, p: password, u: user }));
  const bytes = new Uint8Array(Math.ceil(json.length / PADDED_BYTES) * PADDED_BYTES).fill(0x20);
  bytes.set(json);
  json.fill(0);
  return bytes;
}
