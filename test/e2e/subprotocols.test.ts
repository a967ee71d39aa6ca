import { expect, test } from 'vitest';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { dial, headerValues, type Headers } from '../support/raw-websocket.ts';
import { startRelay } from '../support/relay.ts';

const protocol = (value: string): Headers[number] => ['Sec-WebSocket-Protocol', value];

test.each([
  ['the first of the list', [protocol('chat.v2, chat.v1')], [protocol('chat.v2')], ['chat.v2']],
  ['another of the list', [protocol('chat.v2, chat.v1')], [protocol('chat.v1')], ['chat.v1']],
  [
    'one from a second line',
    [protocol('chat.v2'), protocol('chat.v1')],
    [protocol('chat.v1')],
    ['chat.v1'],
  ],
  [
    'the whole list echoed',
    [protocol('chat.v2,chat.v1')],
    [protocol('chat.v2,chat.v1')],
    ['chat.v2'],
  ],
  ['none although some were offered', [protocol('chat.v2')], [], []],
  ['none, none being offered', [], [], []],
])('the listener takes %s: both answers name it', async (_what, offered, taken, expected) => {
  await using relay = await startRelay();
  const control = await openListener(relay);
  const dialling = dialSender(relay, 'hyco', { headers: offered });
  const { address, connectHeaders } = await control.nextAccept();
  expect(connectHeaders['Sec-WebSocket-Protocol']).toBe(
    offered.length === 0 ? undefined : offered.map(([, value]) => value).join(', '),
  );
  const dialled = await dial(address, { headers: taken }).answer;
  const answer = await dialling.answer;
  expect(headerValues(dialled, 'sec-websocket-protocol')).toEqual(expected);
  expect(headerValues(answer, 'sec-websocket-protocol')).toEqual(expected);
});

test.each([
  ['one that the sender did not offer', [protocol('chat.v1')]],
  ['one although the sender offered none', []],
])('a listener that takes %s is refused, and may dial again', async (_what, offered) => {
  await using relay = await startRelay();
  const control = await openListener(relay);
  const dialling = dialSender(relay, 'hyco', { headers: offered });
  const { address } = await control.nextAccept();
  const refused = await dial(address, { headers: [protocol('other')] }).answer;
  expect(refused.status).toBe(400);
  expect(refused.reason).toMatch(/subprotocol/);
  const dialled = await dial(address).answer;
  expect(dialled.status).toBe(101);
  const answer = await dialling.answer;
  expect(answer.status).toBe(101);
});
