import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

// Signatures of webhooks, both those that come in and those that go out, in the form of Standard Webhooks
// (standardwebhooks.com, symmetric `v1`): libraries of many languages make and check them. Id and time are
// signed with the body, so that neither can be changed to have it taken twice.

const SECRET_BYTES = 32;
const SHOWN_PREFIX = 'whsec_';
/** Signatures that one delivery may carry, as while a secret is changed. */
const SIGNATURES_MAX = 5;

/** The headers of a delivery. */
export interface WebhookHeaders {
  /** `webhook-id`: the same for each try of one delivery. */
  readonly id: string;
  /** `webhook-timestamp`: seconds since 1970. */
  readonly timestamp: string;
  /** `webhook-signature`: `v1,<base64>`, several of them with spaces between. */
  readonly signature: string;
}

/** Base64, as it is kept; people are shown it as `shownSecret` says. */
export function newWebhookSecret(): string {
  return randomBytes(SECRET_BYTES).toString('base64');
}

export function shownSecret(secret: string): string {
  return `${SHOWN_PREFIX}${secret}`;
}

export function signWebhook(
  secret: string,
  { id, timestamp }: Pick<WebhookHeaders, 'id' | 'timestamp'>,
  body: string | Uint8Array,
): string {
  return `v1,${macOf(secret, id, timestamp, body).toString('base64')}`;
}

/** Whether one of the signatures is of one of the secrets. When it was made is the caller's to check. */
export function isWebhookSigned(
  secrets: readonly string[],
  { id, timestamp, signature }: WebhookHeaders,
  body: string | Uint8Array,
): boolean {
  const given = signature
    .split(' ')
    .slice(0, SIGNATURES_MAX)
    .filter(one => one.startsWith('v1,'))
    .map(one => Buffer.from(one.slice('v1,'.length), 'base64'));
  return secrets.some(secret => {
    const expected = macOf(secret, id, timestamp, body);
    return given.some(mac => mac.length === expected.length && timingSafeEqual(mac, expected));
  });
}

function macOf(secret: string, id: string, timestamp: string, body: string | Uint8Array): Buffer {
  const hmac = createHmac('sha256', Buffer.from(secret, 'base64'));
  return hmac.update(`${id}.${timestamp}.`).update(body).digest();
}
