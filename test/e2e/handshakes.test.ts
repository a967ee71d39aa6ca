import { expect, test } from 'vitest';
import { dialListener, dialSender, openListener } from '../support/azure-clients.ts';
import { dial, headerValues } from '../support/raw-websocket.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';

async function isWell(relay: TestRelay): Promise<void> {
  const control = await openListener(relay);
  const dialling = dialSender(relay);
  await control.acceptNext();
  expect((await dialling.answer).status).toBe(101);
}

test('an action that is refused cannot break out of the status line', async () => {
  await using relay = await startRelay();
  const evil = encodeURIComponent('x\r\nSet-Cookie: a=b\r\n\r\n');
  const answer = await dial(`${relay.wsUrl}/$hc/hyco?sb-hc-action=${evil}`).answer;
  expect(answer.status).toBe(400);
  expect(headerValues(answer, 'set-cookie')).toEqual([]);
});

test.each([
  ['dot segments', '/$hc/hyco/../a'],
  ['encoded dot segments', '/$hc/hyco/%2e%2E/a'],
  ['an encoded slash', '/$hc/hyco%2Fa'],
  ['an encoded backslash', '/$hc/hyco%5C..'],
  ['an encoded zero', '/$hc/hyco/%00'],
  ['a broken escape', '/$hc/hyco/%zz'],
  ['what is no UTF-8', '/$hc/hyco/%ff'],
  ['a path beyond all measure', `/$hc/hyco/${'x'.repeat(9_000)}`],
])('a path with %s is refused with 404, whoever asks', async (_what, path) => {
  await using relay = await startRelay();
  for (const action of ['listen', 'connect']) {
    const answer = await dial(`${relay.wsUrl}${path}?sb-hc-action=${action}`, {
      headers: [['ServiceBusAuthorization', relay.token('')]],
    }).answer;
    expect(answer.status).toBe(404);
    expect(answer.reason).toMatch(
      /^Endpoint does not exist: The path of the request is malformed\. /,
    );
  }
  await isWell(relay);
});

test('a hundred half-open handshakes do not keep others out', async () => {
  await using relay = await startRelay();
  const halves = Array.from({ length: 100 }, () =>
    dial(`${relay.wsUrl}/$hc/hyco`, { without: ['host'], headers: [['Host', 'x\r\nX-Half: ']] }),
  );
  await isWell(relay);
  await Promise.all(halves.map(half => half.abandon()));
});

test('headers for both roles may come in any case and order, with spaces around', async () => {
  await using relay = await startRelay();
  const answer = await dialListener(relay, 'hyco', {
    token: '',
    without: ['upgrade', 'connection'],
    headers: [
      ['SERVICEBUSAUTHORIZATION', `  ${relay.token()}  `],
      ['upgrade', 'WebSocket'],
      ['connection', 'keep-alive, UPGRADE'],
    ],
  }).answer;
  expect(answer.status).toBe(101);
});
