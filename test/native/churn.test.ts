import { readdirSync, readlinkSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { encodeClosePayload, OPCODES } from '../../src/protocol/frames.ts';
import type { FrameClient } from '../support/frame-client.ts';
import { startNativeRelay, type LegKind, type NativeRelay } from '../support/native-relay.ts';
import { until, within } from '../support/within.ts';

/** Pairs in all; under AddressSanitizer a run of fewer is asked for by this variable. */
const PAIRS = Number(process.env['HALFWAY_CHURN_PAIRS'] ?? 10_000);
const AT_ONCE = 20;
const MEBIBYTE = 1024 * 1024;

type Rudeness = (a: FrameClient, b: FrameClient) => void;

const text = (from: FrameClient): Uint8Array =>
  from.frame(OPCODES.text, 'some text that is longer than nothing');
const flood = (from: FrameClient): Uint8Array => from.frame(OPCODES.binary, Buffer.alloc(60_000));

/** Ways to leave without manners. Each must end the pair, whatever the other end does. */
const RUDE_ENDS: readonly (readonly [string, Rudeness])[] = [
  ['FIN', a => a.fin()],
  ['reset', a => a.reset()],
  [
    'FIN in a frame',
    a => {
      a.write(text(a).subarray(0, 20));
      a.fin();
    },
  ],
  [
    'reset in a header',
    a => {
      a.write(text(a).subarray(0, 3));
      a.reset();
    },
  ],
  [
    'Close and vanish',
    a => {
      a.write(a.frame(OPCODES.close, encodeClosePayload(1000)));
      a.reset();
    },
  ],
  [
    'both reset at once',
    (a, b) => {
      a.write(text(a));
      b.write(text(b));
      a.reset();
      b.reset();
    },
  ],
  ['garbage', a => a.write(Buffer.from('GET / HTTP/1.1\r\n\r\n'))],
  [
    'a reader that stands still, then reset',
    (a, b) => {
      b.socket.pause();
      for (let i = 0; i < 4; i += 1) a.write(flood(a));
      b.reset();
    },
  ],
  [
    'a flood, then reset',
    a => {
      for (let i = 0; i < 4; i += 1) a.write(flood(a));
      a.reset();
    },
  ],
  [
    'close against close',
    (a, b) => {
      a.write(a.frame(OPCODES.close, encodeClosePayload(1000)));
      b.write(b.frame(OPCODES.close, encodeClosePayload(1001)));
      a.fin();
    },
  ],
];

describe('splice()', () => {
  let relay: NativeRelay;
  beforeAll(async () => {
    relay = await startNativeRelay();
  });
  afterEach(async () => {
    await relay.cutAll();
  });
  afterAll(async () => {
    await relay[Symbol.asyncDispose]();
  });

  async function churn(pairs: number, kinds?: readonly [LegKind, LegKind]): Promise<Set<string>> {
    const causes = new Set<string>();
    let next = 0;
    const workers = Array.from({ length: AT_ONCE }, async () => {
      while (next < pairs) {
        const number = next;
        next += 1;
        const [name, leave] = RUDE_ENDS[number % RUDE_ENDS.length] ?? ['', () => {}];
        const { a, b, ended } = await relay.pair(kinds === undefined ? {} : { kinds });
        const [first, second] = number % 2 === 0 ? [a, b] : [b, a];
        leave(first, second);
        // The other end, and a client that only broke the rules, leaves once it is told to.
        void Promise.all([a.ended.then(() => a.reset()), b.ended.then(() => b.reset())]);
        const end = await within(`the end of pair ${number}: ${name}`, ended, 20_000);
        causes.add(end.a.cause).add(end.b.cause);
        a.reset();
        b.reset();
      }
    });
    const sweeping = setInterval(() => relay.plane.sweep(), 100);
    await Promise.all(workers);
    clearInterval(sweeping);
    return causes;
  }

  test(
    `outlives ${PAIRS} pairs that end rudely: no leg left, memory flat`,
    { timeout: 120_000 },
    async () => {
      // Half of them to reach the state in which memory stays.
      const causes = await churn(PAIRS / 2);
      await relay.empty();
      const before = process.memoryUsage.rss();
      await churn(PAIRS / 2);
      await relay.empty();
      expect(process.memoryUsage.rss() - before).toBeLessThan(48 * MEBIBYTE);
      expect([...causes].toSorted()).toEqual(['close', 'lost', 'pair-ended', 'protocol-error']);
      expect(relay.plane.stats()).toMatchObject({ legs: 0, queuedBytes: 0, heldBytes: 0 });
      const { a, b } = await relay.pair();
      a.sendText('as ever');
      expect(await b.nextText()).toBe('as ever');
    },
  );

  test(
    `outlives ${PAIRS / 2} rude ends of streams between nodes: no leg and no descriptor left`,
    { timeout: 120_000 },
    async () => {
      await churn(PAIRS / 20, ['raw', 'websocket']);
      await relay.empty();
      const before = process.memoryUsage.rss();
      const causes = await churn(PAIRS / 4, ['raw', 'websocket']);
      for (const cause of await churn(PAIRS / 4, ['raw', 'raw'])) causes.add(cause);
      await relay.empty();
      expect(process.memoryUsage.rss() - before).toBeLessThan(48 * MEBIBYTE);
      expect([...causes].toSorted()).toEqual(['close', 'lost', 'pair-ended', 'protocol-error']);
      expect(relay.plane.stats()).toMatchObject({ legs: 0, rawLegs: 0, queuedBytes: 0 });
      await until('no socket left', () => socketsOpen() <= AT_ONCE);
    },
  );
});

/** Sockets that this process has open, both ends of each connection. */
function socketsOpen(): number {
  let count = 0;
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:')) count += 1;
    } catch {
      // Closed since it was listed.
    }
  }
  return count;
}
