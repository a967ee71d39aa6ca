import { expect, test } from 'vitest';
import { formatRenewToken } from '../../src/protocol/control-messages.ts';
import { dialSender, joinPair, openListener } from '../support/azure-clients.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { open } from '../support/raw-websocket.ts';
import { startRelay, type TokenOptions } from '../support/relay.ts';
import { until } from '../support/within.ts';

const HOUR_MS = 3_600_000;
const GRACE_MS = 300_000;
const MARGIN_MS = 60_000;
const DISCONNECTS = 'halfway_listener_disconnects_total';

test('a listener is closed with 1008 when its token has been expired for the grace', async () => {
  const clock = new FakeClock();
  await using relay = await startRelay({ tokenGraceMs: GRACE_MS }, { clock });
  const { control } = await openListener(relay);
  // Tokens are made by the real clock, which may have gone on since the fake one began.
  clock.advance(HOUR_MS + GRACE_MS - MARGIN_MS);
  expect(relay.server.status().listeners).toBe(1);
  clock.advance(2 * MARGIN_MS);
  const { code, reason } = await control.nextClose();
  expect(code).toBe(1008);
  expect(reason).toMatch(/^ExpiredToken: /);
  await control.ended();
  expect(await relay.metric(`${DISCONNECTS}{reason="token-expired"}`)).toBe(1);
  expect(relay.log.lines.join('\n')).toMatch('ListenerClosingFromExpiredToken');
});

test('a token renewed within the grace, as .NET does it, keeps the listener', async () => {
  const clock = new FakeClock();
  await using relay = await startRelay({ tokenGraceMs: GRACE_MS }, { clock });
  const listener = await openListener(relay);
  clock.advance(HOUR_MS + 1_000);
  listener.control.send(formatRenewToken(relay.token('hyco', { rule: 'listener', ttlSec: 7_300 })));
  // No answer: a sender that is announced afterwards shows that the renewal has been read.
  const first = dialSender(relay, 'hyco', { token: relay.token('hyco', { ttlSec: 86_400 }) });
  await listener.nextAccept();
  await first.abandon();
  clock.advance(HOUR_MS);
  expect(relay.server.status().listeners).toBe(1);
  const second = dialSender(relay, 'hyco', { token: relay.token('hyco', { ttlSec: 86_400 }) });
  await listener.acceptNext();
  expect((await second.answer).status).toBe(101);
});

test.each([
  [
    "Java's, which is no token at all",
    'com.microsoft.azure.relay.SharedAccessSignatureToken@1b2c3d',
    /^MalformedToken: /,
  ],
  [
    'a forged one',
    'SharedAccessSignature sr=http%3A%2F%2F127.0.0.1%2Fhyco&sig=eA%3D%3D&se=1999999999&skn=root',
    /^InvalidSignature: /,
  ],
  ['an empty one', '', /^MissingToken: /],
])('a renewal with %s closes the listener with 1008', async (_what, token, reason) => {
  await using relay = await startRelay();
  const { control } = await openListener(relay);
  control.send(formatRenewToken(token));
  const close = await control.nextClose();
  expect(close.code).toBe(1008);
  expect(close.reason).toMatch(reason);
  expect(close.reason).toMatch(/TrackingId:[\da-f-]{36}/);
  await control.ended();
  expect(await relay.metric(`${DISCONNECTS}{reason="renewal-refused"}`)).toBe(1);
});

test.each<[string, string, TokenOptions, RegExp]>([
  ['for another hybrid connection', 'open', {}, /^InvalidAudience: /],
  ['that only allows to send', 'hyco', { rule: 'sender' }, /^Authorization failed /],
  ['that is expired', 'hyco', { ttlSec: -1 }, /^ExpiredToken: /],
])('a renewal with a token %s closes the listener with 1008', async (_what, path, of, reason) => {
  await using relay = await startRelay();
  const { control } = await openListener(relay);
  control.send(formatRenewToken(relay.token(path, of)));
  const close = await control.nextClose();
  expect(close.code).toBe(1008);
  expect(close.reason).toMatch(reason);
});

test('joined pairs live on when the tokens of both sides expire', async () => {
  const clock = new FakeClock();
  await using relay = await startRelay({}, { clock });
  const { sender, listener, control } = await joinPair(relay);
  clock.advance(24 * HOUR_MS);
  expect(await control.control.nextClose()).toMatchObject({ code: 1008 });
  await until('the listener is gone', () => relay.server.status().listeners === 0);
  sender.send('still joined');
  expect(await listener.nextText()).toBe('still joined');
});

test('a sender with a token that expires while it waits is let in', async () => {
  const clock = new FakeClock();
  await using relay = await startRelay({}, { clock });
  const control = await openListener(relay);
  const dialling = dialSender(relay, 'hyco', { token: relay.token('hyco', { ttlSec: 5 }) });
  const { address } = await control.nextAccept();
  clock.advance(20_000);
  await open(address);
  expect((await dialling.answer).status).toBe(101);
  // But it cannot be used again.
  const again = await dialSender(relay, 'hyco', { token: relay.token('hyco', { ttlSec: 5 }) })
    .answer;
  expect(again.status).toBe(401);
});
