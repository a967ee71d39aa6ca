import { expect, test } from 'vitest';
import {
  isWebhookSigned,
  newWebhookSecret,
  shownSecret,
  signWebhook,
} from '../../src/dispatch/webhook-signature.ts';

// The example of the Standard Webhooks libraries.
const SECRET = 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const ABOUT = { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', timestamp: '1614265330' };
const BODY = '{"test": 2432232314}';
const SIGNATURE = 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=';

test('signWebhook() makes what the libraries of Standard Webhooks make', () => {
  expect(signWebhook(SECRET, ABOUT, BODY)).toBe(SIGNATURE);
});

test('isWebhookSigned() takes one good signature of several, by any secret that is good', () => {
  const signed = { ...ABOUT, signature: `v1a,xyz v1,AAAA ${SIGNATURE}` };
  expect(isWebhookSigned([newWebhookSecret(), SECRET], signed, Buffer.from(BODY))).toBe(true);
});

test.each([
  ['no signature', { signature: '' }, BODY],
  ['another version', { signature: SIGNATURE.replace('v1', 'v2') }, BODY],
  ['another id', { id: 'msg_other' }, BODY],
  ['another time', { timestamp: '1614265331' }, BODY],
  ['another body', {}, `${BODY} `],
  ['a short one', { signature: SIGNATURE.slice(0, 20) }, BODY],
])('isWebhookSigned() refuses %s', (_what, change, body) => {
  expect(isWebhookSigned([SECRET], { ...ABOUT, signature: SIGNATURE, ...change }, body)).toBe(
    false,
  );
});

test('newWebhookSecret() is new each time, and is shown as others expect it', () => {
  expect(newWebhookSecret()).not.toBe(newWebhookSecret());
  expect(shownSecret(newWebhookSecret())).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
});
