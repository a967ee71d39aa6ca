import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { dialSender, openListener, type RawListener } from '../support/azure-clients.ts';
import { open, type Headers } from '../support/raw-websocket.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';

/** Accepts everything at a listener, and counts. */
function acceptAll(listener: RawListener): { taken: number } {
  const count = { taken: 0 };
  const loop = async (): Promise<void> => {
    for (;;) {
      const { address } = await listener.nextAccept(60_000);
      count.taken += 1;
      await open(address);
    }
  };
  // Ends with its connection, when the relay of the test stops.
  void loop().catch(() => {});
  return count;
}

const connect = async (relay: TestRelay, headers: Headers = []): Promise<number> =>
  (await dialSender(relay, 'hyco', { headers }).answer).status;

test('senders are spread over all listeners, about evenly', async () => {
  await using relay = await startRelay();
  const counts = [];
  for (let i = 0; i < 4; i += 1) counts.push(acceptAll(await openListener(relay)));
  for (let i = 0; i < 200; i += 1) expect(await connect(relay)).toBe(101);
  // 50 expected each; by chance alone fewer than 20 come to one in a million runs.
  for (const { taken } of counts) expect(taken).toBeGreaterThan(20);
});

test('a listener that has come or gone is noticed at once', async () => {
  await using relay = await startRelay();
  const first = await openListener(relay);
  const counts = [acceptAll(first)];
  expect(await connect(relay)).toBe(101);
  counts.push(acceptAll(await openListener(relay)));
  for (let i = 0; i < 40; i += 1) expect(await connect(relay)).toBe(101);
  expect(counts[1]?.taken).toBeGreaterThan(0);
  first.control.sendClose(1000);
  await first.control.ended();
  const before = counts[0]?.taken;
  for (let i = 0; i < 10; i += 1) expect(await connect(relay)).toBe(101);
  expect(counts[0]?.taken).toBe(before);
});

async function threeListeners(relay: TestRelay) {
  const ids = [randomUUID(), randomUUID(), randomUUID()] as const;
  const counts: { taken: number }[] = [];
  for (const id of ids) {
    counts.push(acceptAll(await openListener(relay, 'hyco', { id: id.toUpperCase() })));
  }
  return { ids, taken: () => counts.map(count => count.taken) };
}

describe('the routing headers of .NET tests', () => {
  const ALLOWED = 'Microsoft-Relay-AllowedListeners';
  const DISALLOWED = 'Microsoft-Relay-DisallowedListeners';

  test('send to one listener, to some, or to all but some', async () => {
    await using relay = await startRelay();
    const { ids, taken } = await threeListeners(relay);
    for (let i = 0; i < 5; i += 1) expect(await connect(relay, [[ALLOWED, ids[1]]])).toBe(101);
    expect(taken()).toEqual([0, 5, 0]);
    for (let i = 0; i < 5; i += 1) {
      expect(await connect(relay, [[DISALLOWED, `${ids[0]}, ${ids[1]}`]])).toBe(101);
    }
    expect(taken()).toEqual([0, 5, 5]);
    for (let i = 0; i < 5; i += 1) {
      expect(
        await connect(relay, [
          [ALLOWED, `${ids[0]},${ids[2]}`],
          [DISALLOWED, ids[2]],
        ]),
      ).toBe(101);
    }
    expect(taken()).toEqual([5, 5, 5]);
  });

  test('leave nobody: 404 with the words that the tests look for', async () => {
    await using relay = await startRelay();
    const { ids } = await threeListeners(relay);
    for (const headers of [
      [[ALLOWED, randomUUID()]],
      [[ALLOWED, 'nonsense']],
      [[DISALLOWED, ids.join(',')]],
    ] as const) {
      const answer = await dialSender(relay, 'hyco', { headers }).answer;
      expect(answer.status).toBe(404);
      expect(answer.reason).toMatch(
        /None of the connected listeners meet the AllowedListeners\/DisallowedListeners criteria/,
      );
    }
  });
});
