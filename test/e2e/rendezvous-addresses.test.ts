import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { dialSender, joinPair, onlyListener, openListener } from '../support/azure-clients.ts';
import { dial, open } from '../support/raw-websocket.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

async function waitingSender(relay: TestRelay) {
  const control = await onlyListener(relay);
  const dialling = dialSender(relay);
  const { address, id } = await control.nextAccept();
  return { dialling, address, id };
}

describe('an accept address', () => {
  test.each([
    [{}, /^ws:\/\/127\.0\.0\.1:\d+\/\$hc\/hyco\?/],
    [{ publicUrl: 'https://relay.example.com' }, /^wss:\/\/relay\.example\.com\/\$hc\/hyco\?/],
    [
      { publicUrl: 'https://relay.example.com', nodeUrl: 'https://node-1.example.com:8443' },
      /^wss:\/\/node-1\.example\.com:8443\/\$hc\/hyco\?/,
    ],
  ])('with %j begins where listeners are to dial', async (options, expected) => {
    await using relay = await startRelay(options);
    const { dialling, address } = await waitingSender(relay);
    expect(address).toMatch(expected);
    await dialling.abandon();
  });

  test('works for one of many who dial it at once', async () => {
    await using relay = await startRelay();
    const { dialling, address } = await waitingSender(relay);
    const answers = await Promise.all(Array.from({ length: 20 }, () => dial(address).answer));
    const statuses = answers.map(({ status }) => status).toSorted((a, b) => a - b);
    expect(statuses).toEqual([101, ...Array.from({ length: 19 }, () => 403)]);
    expect((await dialling.answer).status).toBe(101);
  });

  test('is worth nothing without its secret, and no refusal repeats it', async () => {
    await using relay = await startRelay();
    const { dialling, address, id } = await waitingSender(relay);
    const uuid = id.slice(0, 36);
    for (const guess of [
      uuid,
      `${uuid}_G${'0'.repeat(32)}`,
      `${randomUUID()}${id.slice(36)}`,
      id.toUpperCase(),
      `${id}0`,
      `${id} `,
      '',
      'x'.repeat(10_000),
    ]) {
      const answer = await dial(address.replace(id, encodeURIComponent(guess))).answer;
      expect(answer.status, guess).toBe(403);
      expect(answer.reason + answer.body).not.toMatch(id.slice(38));
    }
    await open(address);
    expect((await dialling.answer).status).toBe(101);
  });

  test('works whatever the path and the host say: the id alone decides', async () => {
    await using relay = await startRelay();
    const { dialling, id } = await waitingSender(relay);
    await open(`ws://localhost:${relay.port}/$hc/?sb-hc-id=${id}&sb-hc-action=ACCEPT`);
    expect((await dialling.answer).status).toBe(101);
  });

  test('cannot be used as the address of a request, nor without its action', async () => {
    await using relay = await startRelay();
    const { dialling, address } = await waitingSender(relay);
    const request = address.replace('sb-hc-action=accept', 'sb-hc-action=request');
    expect((await dial(request).answer).status).toBe(403);
    // Without an action it is a sender without a token.
    expect((await dial(address.replace('sb-hc-action=accept&', '')).answer).status).toBe(401);
    await open(address);
    expect((await dialling.answer).status).toBe(101);
  });

  test('answers plain HTTP with 400 and stays good', async () => {
    await using relay = await startRelay();
    const { dialling, address } = await waitingSender(relay);
    const answer = await fetch(address.replace('ws:', 'http:'));
    expect(answer.status).toBe(400);
    expect(answer.statusText).toMatch(/^This endpoint is only for web-socket requests\./);
    await open(address);
    expect((await dialling.answer).status).toBe(101);
  });

  test('is taken by a listener that leaves at once: the sender gets 101 and a Close, or is cut', async () => {
    await using relay = await startRelay();
    for (let i = 0; i < 20; i += 1) {
      const { dialling, address } = await waitingSender(relay);
      const listener = dial(address);
      await Promise.race([listener.answer, dialling.answer]);
      await (await listener.answer).socket?.reset();
      const { status, socket } = await dialling.answer;
      expect(status).toBe(101);
      expect(await socket?.nextClose()).toMatchObject({ code: 1001 });
      socket?.fin();
    }
    await until('all are forgotten', () => relay.server.status().senders === 0);
  });

  test('of each sender is its own, also when senders bring the same id', async () => {
    await using relay = await startRelay();
    const control = await openListener(relay);
    const id = randomUUID();
    const query = `sb-hc-action=connect&sb-hc-id=${id}`;
    const first = dialSender(relay, 'hyco/1', { query });
    const second = dialSender(relay, 'hyco/2', { query });
    const accepts = [await control.nextAccept(), await control.nextAccept()];
    expect(new Set(accepts.map(accept => accept.id)).size).toBe(2);
    for (const { address } of accepts) {
      const listener = await open(address);
      listener.send(address.includes('/hyco/1?') ? '1' : '2');
    }
    expect(await (await first.answer).socket?.nextText()).toBe('1');
    expect(await (await second.answer).socket?.nextText()).toBe('2');
  });

  test('stays out of every log line', async () => {
    await using relay = await startRelay();
    const { dialling, address, id } = await waitingSender(relay);
    await open(address);
    await dialling.answer;
    await dial(address).answer;
    expect(relay.log.lines.length).toBeGreaterThan(2);
    expect(relay.log.lines.join('\n')).not.toMatch(id.slice(38));
  });
});

test('a listener that speaks with its handshake breaks nothing', async () => {
  await using relay = await startRelay();
  const { dialling, address } = await waitingSender(relay);
  const early = Buffer.concat([Buffer.from([0x81, 0x85, 0, 0, 0, 0]), Buffer.from('early')]);
  const dialled = await dial(address, { early }).answer;
  expect(dialled.status).toBe(101);
  const { socket: sender } = await dialling.answer;
  dialled.socket?.send('after');
  // RFC 6455 forbids to speak that early; what was said may be lost, what follows may not.
  let text = await sender?.nextText();
  if (text === 'early') text = await sender?.nextText();
  expect(text).toBe('after');
  const bystander = await joinPair(relay);
  bystander.sender.send('fine');
  expect(await bystander.listener.nextText()).toBe('fine');
});
