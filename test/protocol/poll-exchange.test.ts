import fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodePollBatch, parsePollBatch, type PollBatch } from '../../src/protocol/poll-frames.ts';
import { IncomingFrames } from '../../src/protocol/poll-incoming.ts';
import { OutgoingFrames } from '../../src/protocol/poll-outgoing.ts';

// Both ends of a session over a network that loses, repeats, delays and reorders whole batches.

const WINDOW_BYTES = 200;

class End {
  readonly outgoing = new OutgoingFrames();
  readonly incoming = new IncomingFrames(WINDOW_BYTES);
  readonly said: string[] = [];
  readonly heard: string[] = [];
  #isInMessage = false;

  constructor() {
    this.outgoing.acknowledge(0, WINDOW_BYTES);
  }

  say(lengthBytes: number, isFinal: boolean): void {
    if (this.outgoing.isClosed) return;
    const text = `${this.said.length}`.padEnd(lengthBytes, '.');
    const opcode = this.#isInMessage ? 0 : 1;
    this.#isInMessage = !isFinal;
    this.said.push(`${opcode} ${isFinal} ${text}`);
    this.outgoing.push(opcode, isFinal, Buffer.from(text));
  }

  close(): void {
    if (this.outgoing.isClosed) return;
    this.outgoing.close(4000, 'over');
    this.said.push('8 true \x0f\xa0over');
  }

  /** Frames behind those that are acknowledged; or, without waiting for that, behind those sent before. */
  batch(from: number, bytesMax: number): Uint8Array {
    const { received: ack, credit } = this.incoming;
    return encodePollBatch({ ...this.outgoing.take(from, bytesMax), ack, credit });
  }

  /** What a peer that keeps to the rules may find; a gap only when a batch before it is not there yet. */
  take(bytes: Uint8Array): void {
    const batch = parsePollBatch(bytes);
    if (typeof batch === 'string') throw new Error(batch);
    expect(this.outgoing.acknowledge(batch.ack, batch.credit)).toBe(true);
    const fault = this.incoming.accept(batch);
    if (fault !== undefined)
      expect([fault, isAhead(batch, this.incoming)]).toEqual(['sequence-gap', true]);
    expect(this.incoming.waitingBytes).toBeLessThanOrEqual(WINDOW_BYTES);
  }

  hear(): boolean {
    const frame = this.incoming.read();
    if (frame === undefined) return false;
    const text = Buffer.from(frame.payload).toString('latin1');
    this.heard.push(`${frame.opcode} ${frame.isFinal} ${text}`);
    return true;
  }
}

function isAhead(batch: PollBatch, incoming: IncomingFrames): boolean {
  return batch.seq > incoming.received + 1;
}

const side = fc.constantFrom(0 as const, 1 as const);
const step = fc.oneof(
  fc.record({ do: fc.constant('say' as const), side, bytes: fc.nat(120), isFinal: fc.boolean() }),
  fc.record({
    do: fc.constant('send' as const),
    side,
    isPipelined: fc.boolean(),
    bytesMax: fc.nat(300),
  }),
  // Which of those under way: the oldest, the newest or any; and whether it stays to come again.
  fc.record({ do: fc.constant('arrive' as const), side, which: fc.nat(), again: fc.boolean() }),
  fc.record({ do: fc.constant('lose' as const), side, which: fc.nat() }),
  fc.record({ do: fc.constant('hear' as const), side }),
  fc.record({ do: fc.constant('close' as const), side, chance: fc.nat(30) }),
);

test('every frame arrives once and in order, within its credit, whatever the network does', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400, size: 'max' }), steps => {
      const ends = [new End(), new End()] as const;
      /** Batches on their way to either end. */
      const under: readonly [Uint8Array[], Uint8Array[]] = [[], []];
      const sent = [0, 0];
      for (const one of steps) {
        const end = ends[one.side];
        const away = under[one.side === 0 ? 1 : 0];
        const here = under[one.side];
        if (one.do === 'say') end.say(one.bytes, one.isFinal);
        else if (one.do === 'close' && one.chance === 0) end.close();
        else if (one.do === 'hear') end.hear();
        else if (one.do === 'send') {
          const from = one.isPipelined ? (sent[one.side] ?? 0) + 1 : 1;
          const bytes = end.batch(from, one.bytesMax);
          const batch = parsePollBatch(bytes);
          if (typeof batch === 'string') throw new Error(batch);
          sent[one.side] = Math.max(sent[one.side] ?? 0, batch.seq + batch.frames.length - 1);
          away.push(bytes);
        } else if (here.length > 0 && (one.do === 'arrive' || one.do === 'lose')) {
          const at = one.which % here.length;
          const bytes = here[at];
          if (one.do === 'arrive' && bytes !== undefined) end.take(bytes);
          if (one.do === 'lose' || !one.again) here.splice(at, 1);
        }
        for (const [here2, there] of [
          [ends[0], ends[1]],
          [ends[1], ends[0]],
        ] as const) {
          expect(there.heard).toEqual(here2.said.slice(0, there.heard.length));
        }
      }
      finish(ends);
    }),
    { numRuns: 300 },
  );
});

/** From here on the network is a good one: each round must bring something until all is there. */
function finish([a, b]: readonly [End, End]): void {
  for (const end of [a, b]) end.close();
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    while (!from.outgoing.isDelivered) {
      const before = from.outgoing.acked;
      while (to.hear());
      from.take(to.batch(1, 1_000));
      to.take(from.batch(1, 1_000));
      from.take(to.batch(1, 1_000));
      expect(from.outgoing.acked).toBeGreaterThan(before);
    }
    while (to.hear());
    expect(to.heard).toEqual(from.said);
    expect(to.incoming.isClosed).toBe(true);
  }
}
