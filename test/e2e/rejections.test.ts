import { expect, test } from 'vitest';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { dial, headerValues } from '../support/raw-websocket.ts';
import { startRelay } from '../support/relay.ts';

test.each([
  ['.NET', '&sb-hc-statusCode=403&sb-hc-statusDescription=no+such+room', 403, 'no such room'],
  [
    '%20 for spaces',
    '&sb-hc-statusCode=400&sb-hc-statusDescription=Rejected%20by%20user%20code',
    400,
    'Rejected by user code',
  ],
  ['another case of names', '&SB-HC-STATUSCODE=418&Sb-Hc-StatusDescription=teapot', 418, 'teapot'],
  ['hyco-websocket', '&statusCode=401&statusDescription=Not%20you', 401, 'Not you'],
  ['no description', '&sb-hc-statusCode=404', 404, 'Not Found'],
  ['a status nobody knows', '&sb-hc-statusCode=799&sb-hc-statusDescription=odd', 799, 'odd'],
])('a listener turns its sender away, with %s', async (_how, suffix, status, reason) => {
  await using relay = await startRelay();
  const control = await openListener(relay);
  const dialling = dialSender(relay);
  const { address } = await control.nextAccept();
  const rejecting = await dial(`${address}${suffix}`).answer;
  expect(rejecting).toMatchObject({ status: 410, reason: 'Gone' });
  const answer = await dialling.answer;
  expect(answer).toMatchObject({ status, reason });
  // Its own words: no body, tracking text or scheme of ours.
  expect(answer.body).toBe('');
  expect(headerValues(answer, 'www-authenticate')).toEqual([]);
  expect(await relay.metric('halfway_rejections_total')).toBe(1);
  expect(relay.server.status()).toMatchObject({ senders: 0, waitingSenders: 0, listeners: 1 });
});

test('a description cannot break out of the status line', async () => {
  await using relay = await startRelay();
  const control = await openListener(relay);
  const dialling = dialSender(relay);
  const { address } = await control.nextAccept();
  const evil = encodeURIComponent('no\r\nSet-Cookie: a=b\r\n\r\n<html>\u0000\u0007é');
  await dial(`${address}&sb-hc-statusCode=403&sb-hc-statusDescription=${evil}`).answer;
  const answer = await dialling.answer;
  expect(answer.status).toBe(403);
  expect(headerValues(answer, 'set-cookie')).toEqual([]);
  expect(answer.reason).toMatch(/^[ -~]*$/);
  expect(answer.reason).toMatch(/^no .*<html>/);
});

test('a status below 200 cannot end a handshake and becomes 502', async () => {
  await using relay = await startRelay();
  const control = await openListener(relay);
  const dialling = dialSender(relay);
  const { address } = await control.nextAccept();
  await dial(`${address}&sb-hc-statusCode=101&sb-hc-statusDescription=x`).answer;
  expect((await dialling.answer).status).toBe(502);
});

test.each(['', '99', '1000', '4o4', '-1', '200.5', '%20403'])(
  'a status of %j is refused, and the listener may still accept',
  async statusCode => {
    await using relay = await startRelay();
    const control = await openListener(relay);
    const dialling = dialSender(relay);
    const { address } = await control.nextAccept();
    const refused = await dial(`${address}&sb-hc-statusCode=${statusCode}`).answer;
    expect(refused.status).toBe(400);
    expect(refused.reason).toMatch(/^sb-hc-statusCode must be an integer between 100 and 999\./);
    expect((await dial(address).answer).status).toBe(101);
    expect((await dialling.answer).status).toBe(101);
  },
);

test('a sender with a statusCode of its own in the query is accepted, and can be rejected', async () => {
  await using relay = await startRelay();
  const control = await openListener(relay);
  const query = 'statusCode=200&sb-hc-action=connect';
  const first = dialSender(relay, 'hyco', { query });
  await control.acceptNext();
  expect((await first.answer).status).toBe(101);

  const second = dialSender(relay, 'hyco', { query });
  const { address } = await control.nextAccept();
  await dial(`${address}&sb-hc-statusCode=409&sb-hc-statusDescription=busy`).answer;
  expect(await second.answer).toMatchObject({ status: 409, reason: 'busy' });
});
