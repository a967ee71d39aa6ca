import type { Envelope, KeyHolder, Purpose } from '../crypto/envelope.ts';
import type { OpeningKey } from '../crypto/key-pair.ts';
import {
  openEnvelope,
  readCredential,
  readInput,
  type OpeningFault,
} from '../crypto/open-envelope.ts';
import type { Logger } from '../base/logger.ts';
import type { Offer } from '../jobs/messages.ts';
import { OpeningError, type CredentialOpener, type OpenedCredential } from './ports.ts';

/** What this machine knows by itself of the keys it has and of whom they are. */
export interface HeldKeys {
  readonly tenant: string;
  readonly environment: string;
  readonly machineId: string;
  readonly machineKeys: readonly OpeningKey[];
  /** The group that it is in. */
  readonly group: { readonly id: string; readonly keys: readonly OpeningKey[] } | undefined;
}

/**
 * Opens what is sealed to this machine or its group. What it is bound to is made of the machine's own
 * configuration and of what the signed offer asks to use, never of the envelope. `held` is asked each
 * time: a group may have been joined meanwhile. Source: job-dispatch.md section 12.3, checks 1 and 2.
 */
export function credentialOpener(held: () => HeldKeys, log: Logger): CredentialOpener {
  const open = async (offer: Offer, purpose: Purpose, envelope: Envelope): Promise<Uint8Array> => {
    const opened = await openFor(held(), offer, purpose, envelope);
    if (typeof opened !== 'string') return opened;
    const { runId, connection } = offer;
    const about = { runId, connectionId: connection?.id, kid: envelope.kid, purpose: purpose.type };
    log.warn({ event: 'security', code: opened, ...about }, 'sealed data stays shut');
    throw new OpeningError(opened);
  };
  return {
    open: async offer => {
      const { connection, credential } = offer;
      if (connection === undefined || credential === undefined) {
        throw new OpeningError('CredentialCannotBeOpened');
      }
      const { id, version } = connection;
      const plaintext = await open(
        offer,
        { type: 'credential', object: 'connection', id, version },
        credential,
      );
      try {
        return accountIn(plaintext);
      } finally {
        plaintext.fill(0);
      }
    },
    openInputs: async offer => {
      const opened: Record<string, Buffer> = {};
      try {
        for (const [name, envelope] of Object.entries(offer.sealedInputs)) {
          const purpose = { type: 'input', runId: offer.runId, name } as const;
          const plaintext = await open(offer, purpose, envelope);
          const value = readInput(plaintext);
          plaintext.fill(0);
          if (value === undefined) throw new OpeningError('CredentialCannotBeOpened');
          opened[name] = value;
        }
        return opened;
      } catch (error) {
        for (const bytes of Object.values(opened)) bytes.fill(0);
        throw error;
      }
    },
  };
}

async function openFor(
  held: HeldKeys,
  offer: Offer,
  purpose: Purpose,
  envelope: Envelope,
): Promise<Uint8Array | OpeningFault> {
  const all = [...held.machineKeys, ...(held.group?.keys ?? [])];
  if (!all.some(({ kid }) => kid === envelope.kid)) return 'KeyIdUnknown';
  const own = holderOf(held, offer);
  // Sealed to a key of ours, but not to that of the one the offer says it is for.
  if (!own?.keys.some(({ kid }) => kid === envelope.kid)) return 'CredentialContextMismatch';
  return openEnvelope(own.keys, own.holder, purpose, envelope);
}

/** Which of the two that this machine is the offer is for; undefined when it is neither. */
function holderOf(
  { tenant, environment, machineId, machineKeys, group }: HeldKeys,
  { connection }: Offer,
): { readonly holder: Omit<KeyHolder, 'kid'>; readonly keys: readonly OpeningKey[] } | undefined {
  const [kind, id] = [connection?.targetKind ?? 'machine', connection?.targetId ?? machineId];
  if (kind === 'machine' && id === machineId) {
    return { holder: { tenant, environment, kind, id: machineId }, keys: machineKeys };
  }
  if (kind === 'group' && group !== undefined && id === group.id) {
    return { holder: { tenant, environment, kind, id: group.id }, keys: group.keys };
  }
  return undefined;
}

function accountIn(plaintext: Uint8Array): OpenedCredential {
  const credential = readCredential(plaintext);
  if (credential === undefined) throw new OpeningError('CredentialCannotBeOpened');
  const { user, domain, password } = credential;
  return { user, domain, password: Buffer.from(password, 'utf8') };
}
