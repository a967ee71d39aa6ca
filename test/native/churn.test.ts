import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { encodeClosePayload, OPCODES } from '../../src/protocol/frames.ts';
import { clientFrame, type FrameClient } from '../support/frame-client.ts';
import { startNativeRelay, type NativeRelay } from '../support/native-relay.ts';
import { within } from '../support/within.ts';

/** Pairs in all; under AddressSanitizer a run of fewer is asked for by this variable. */
const PAIRS = Number(process.env['HALFWAY_CHURN_PAIRS'] ?? 10_000);
const AT_ONCE = 20;
const MEBIBYTE = 1024 * 1024;

type Rudeness = (a: FrameClient, b: FrameClient) => void;

const text = clientFrame(OPCODES.text, 'some text that is longer than nothing');
const flood = clientFrame(OPCODES.binary, Buffer.alloc(60_000));

/** Ways to leave without manners. Each must end the pair, whatever the other end does. */
const RUDE_ENDS: readonly (readonly [string, Rudeness])[] = [
  ['FIN', a => a.fin()],
  ['reset', a => a.reset()],
  [
    'FIN in a frame',
    a => {
      a.write(text.subarray(0, 20));
      a.fin();
    },
  ],
  [
    'reset in a header',
    a => {
      a.write(text.subarray(0, 3));
      a.reset();
    },
  ],
  [
    'Close and vanish',
    a => {
      a.write(clientFrame(OPCODES.close, encodeClosePayload(1000)));
      a.reset();
    },
  ],
  [
    'both reset at once',
    (a, b) => {
      a.write(text);
      b.write(text);
      a.reset();
      b.reset();
    },
  ],
  ['garbage', a => a.write(Buffer.from('GET / HTTP/1.1\r\n\r\n'))],
  [
    'a reader that stands still, then reset',
    (a, b) => {
      b.socket.pause();
      for (let i = 0; i < 4; i += 1) a.write(flood);
      b.reset();
    },
  ],
  [
    'a flood, then reset',
    a => {
      for (let i = 0; i < 4; i += 1) a.write(flood);
      a.reset();
    },
  ],
  [
    'close against close',
    (a, b) => {
      a.write(clientFrame(OPCODES.close, encodeClosePayload(1000)));
      b.write(clientFrame(OPCODES.close, encodeClosePayload(1001)));
      a.fin();
    },
  ],
];

describe('splice()', () => {
  let relay: NativeRelay;
  beforeAll(async () => {
    relay = await startNativeRelay();
  });
  afterAll(async () => {
    await relay.cutAll();
    await relay[Symbol.asyncDispose]();
  });

  async function churn(pairs: number): Promise<Set<string>> {
    const causes = new Set<string>();
    let next = 0;
    const workers = Array.from({ length: AT_ONCE }, async () => {
      while (next < pairs) {
        const number = next;
        next += 1;
        const [name, leave] = RUDE_ENDS[number % RUDE_ENDS.length] ?? ['', () => {}];
        const { a, b, ended } = await relay.pair();
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
});
