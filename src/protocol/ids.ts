import { assert } from '../base/assert.ts';
import type { Brand } from '../base/brand.ts';

/**
 * Names one rendezvous: `{uuid}_G{32 lower-case hex digits}{node tag}`. Holding it is the right to
 * accept, so it is a secret: the 128 bits behind `_G` are ours, while the UUID may have been chosen by
 * the sender. The tag, 8 hex digits, names the node of a cluster that keeps the rendezvous; a relay of
 * one node has none. The form is what Java listeners can read, which parse the first 36 characters as
 * a UUID.
 */
export type RendezvousId = Brand<string, 'RendezvousId'>;

const UUID_CHARS = 36;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/i;
const RENDEZVOUS_ID =
  /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}_G[0-9a-f]{32}(?:[0-9a-f]{8})?$/;

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

/**
 * Joins a UUID, 32 lower-case hex digits that the caller drew at random for this one rendezvous, and
 * the tag of the node that keeps it.
 */
export function formatRendezvousId(uuid: string, secretHex: string, nodeTag = ''): RendezvousId {
  const id = `${uuid.toLowerCase()}_G${secretHex}${nodeTag}`;
  assert(isRendezvousId(id), 'a rendezvous id is made of a UUID and 32 lower-case hex digits');
  return id;
}

/** Tag of the node that keeps the rendezvous; '' for a relay of one node. */
export function nodeTagOf(id: RendezvousId): string {
  return id.slice(UUID_CHARS + 2 + 32);
}

/** The part of a rendezvous id that may be logged and shown: its UUID, without the secret. */
export function trackingIdOf(id: RendezvousId): string {
  return id.slice(0, UUID_CHARS);
}
