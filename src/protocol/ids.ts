import { assert } from '../base/assert.ts';
import type { Brand } from '../base/brand.ts';

/**
 * Names one rendezvous: `{uuid}_G{32 lower-case hex digits}`. Holding it is the right to accept, so it
 * is a secret: the 128 bits behind `_G` are ours, while the UUID may have been chosen by the sender.
 * The form is what Java listeners can read, which parse the first 36 characters as a UUID.
 */
export type RendezvousId = Brand<string, 'RendezvousId'>;

const UUID_CHARS = 36;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/i;
const RENDEZVOUS_ID =
  /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}_G[0-9a-f]{32}$/;

export function isRendezvousId(text: string): text is RendezvousId {
  return RENDEZVOUS_ID.test(text);
}

/**
 * The UUID that a client's `sb-hc-id` begins with, in lower case (so that ids compare), or undefined
 * when it does not begin with one. Suffixes that relays append (`_G12_G3`) are ignored; anything else
 * behind the UUID makes the id a text of its own, which is no UUID.
 */
export function leadingUuid(text: string | undefined): string | undefined {
  if (text === undefined || !UUID.test(text)) return undefined;
  if (text.length > UUID_CHARS && !text.startsWith('_', UUID_CHARS)) return undefined;
  return text.slice(0, UUID_CHARS).toLowerCase();
}

/** Joins a UUID and 32 lower-case hex digits that the caller drew at random for this one rendezvous. */
export function formatRendezvousId(uuid: string, secretHex: string): RendezvousId {
  const id = `${uuid.toLowerCase()}_G${secretHex}`;
  assert(isRendezvousId(id), 'a rendezvous id is made of a UUID and 32 lower-case hex digits');
  return id;
}

/** The part of a rendezvous id that may be logged and shown: its UUID, without the secret. */
export function trackingIdOf(id: RendezvousId): string {
  return id.slice(0, UUID_CHARS);
}
