import { describe, expect, test } from 'vitest';
import { OPCODE, type Channel, type DataOpcode } from '../../src/relay/ports.ts';
import { until } from '../support/within.ts';

/** What a channel may do without, as it says itself; all else every Channel promises. */
export type ChannelLack =
  /** A message arrives only once it is whole. */
  | 'cut-through'
  /** A Close ends both directions. */
  | 'half-close'
  /** A reader that pauses does not hold back the peer for ever: what waits has a limit of its own. */
  | 'holds-writer';

/** What is at the far end: a channel of the same kind, or a client with its own parser. */
export interface FarEnd {
  /** One whole frame: in a client's case with its mask. */
  send(opcode: DataOpcode, fin: boolean, payload: Uint8Array): void;
  close(code: number, reason: string): void;
  /** Goes away without a Close. */
  vanish(): void;
  /** Begins by reading. */
  stopReading(): void;
  readOn(): void;
  /** Waits until it has had `count` whole messages in all, and gives them. */
  messages(count: number): Promise<readonly Message[]>;
  /** Its peer's Close. */
  closed(): Promise<Closed>;
  /** The connection is over. */
  gone(): Promise<void>;
  /** Bytes of payload had so far, of messages that are not whole too. */
  readonly bytesHad: number;
}

export interface Message {
  readonly opcode: DataOpcode;
  readonly payload: Buffer;
}

export interface Closed {
  readonly code: number;
  readonly reason: string;
}

export interface ChannelUnderTest extends AsyncDisposable {
  /** Fresh: nobody receives from it yet. */
  readonly channel: Channel;
  readonly far: FarEnd;
}

type ChannelEvent =
  | {
      readonly type: 'fragment';
      readonly opcode: DataOpcode;
      readonly fin: boolean;
      readonly payload: Buffer;
    }
  | { readonly type: 'drained' | 'gone' }
  | { readonly type: 'closed'; readonly code: number; readonly reason: string };

/** Takes over a channel and writes down all that it says. Reads from the start unless told not to. */
export class ChannelRecord {
  readonly events: ChannelEvent[] = [];
  readonly #channel: Channel;
  /** Called in the middle of `fragment`. */
  onFragment: () => void = () => {};
  bytesHad = 0;

  constructor(channel: Channel, isReading = true) {
    this.#channel = channel;
    channel.receive({
      fragment: (opcode, fin, payload) => {
        this.bytesHad += payload.length;
        this.#add({ type: 'fragment', opcode, fin, payload: Buffer.from(payload) });
        this.onFragment();
      },
      drained: () => this.#add({ type: 'drained' }),
      closed: (code, reason) => this.#add({ type: 'closed', code, reason }),
      gone: () => this.#add({ type: 'gone' }),
    });
    if (isReading) channel.resume();
  }

  /** What it said, without the times when there was room again. */
  get types(): string[] {
    return this.events.map(event => event.type).filter(type => type !== 'drained');
  }

  get fragments(): Extract<ChannelEvent, { type: 'fragment' }>[] {
    return this.events.filter(event => event.type === 'fragment');
  }

  count(type: ChannelEvent['type']): number {
    return this.events.filter(event => event.type === type).length;
  }

  async had(type: ChannelEvent['type'], count = 1): Promise<void> {
    await until(`${count} times ${type}`, () => this.count(type) >= count);
  }

  async hadBytes(bytes: number): Promise<void> {
    await until(`${bytes} bytes`, () => this.bytesHad >= bytes, 15_000);
  }

  messages(): Message[] {
    const messages: Message[] = [];
    let parts: Buffer[] = [];
    let opcode: DataOpcode = OPCODE.continuation;
    for (const fragment of this.fragments) {
      if (parts.length === 0) opcode = fragment.opcode;
      else expect(fragment.opcode).toBe(OPCODE.continuation);
      parts.push(fragment.payload);
      if (!fragment.fin) continue;
      messages.push({ opcode, payload: Buffer.concat(parts) });
      parts = [];
    }
    return messages;
  }

  async wholeMessages(count: number): Promise<readonly Message[]> {
    await until(
      `${count} messages`,
      () => this.fragments.filter(({ fin }) => fin).length >= count,
      15_000,
    );
    return this.messages();
  }

  close(): Closed | undefined {
    return this.events.find(event => event.type === 'closed');
  }

  get channel(): Channel {
    return this.#channel;
  }

  #add(event: ChannelEvent): void {
    this.events.push(event);
  }
}

/** A channel of the same kind at the far end. */
export class FarChannel implements FarEnd {
  readonly record: ChannelRecord;

  constructor(channel: Channel) {
    this.record = new ChannelRecord(channel);
  }

  get bytesHad(): number {
    return this.record.bytesHad;
  }

  send(opcode: DataOpcode, fin: boolean, payload: Uint8Array): void {
    this.record.channel.send(opcode, fin, payload);
  }

  close(code: number, reason: string): void {
    this.record.channel.close(code, reason);
  }

  vanish(): void {
    this.record.channel.destroy();
  }

  stopReading(): void {
    this.record.channel.pause();
  }

  readOn(): void {
    this.record.channel.resume();
  }

  messages(count: number): Promise<readonly Message[]> {
    return this.record.wholeMessages(count);
  }

  async closed(): Promise<Closed> {
    await this.record.had('closed');
    return this.record.close() ?? { code: 0, reason: '' };
  }

  gone(): Promise<void> {
    return this.record.had('gone');
  }
}

/** Lengths at which headers and buffers change, up to more than any single read. */
const LENGTHS = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 200_000, 1_500_000];
const CHUNK = Buffer.alloc(65_536, 'c');
/** More than the system's socket buffers of both ends take together. */
const FLOOD_CHUNKS_MAX = 1_000;

/**
 * What every Channel promises; run once per implementation. `lacks` names what this one does without,
 * and takes the tests of it away.
 */
export function describeChannel(
  name: string,
  open: () => Promise<ChannelUnderTest>,
  lacks: readonly ChannelLack[] = [],
): void {
  const promises = (promise: ChannelLack): boolean => !lacks.includes(promise);

  describe(`${name} as a Channel`, () => {
    test('carries messages of all lengths and both types, out and in', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      for (const [index, length] of LENGTHS.entries()) {
        const payload = patterned(length, index);
        const opcode = index % 2 === 0 ? OPCODE.binary : OPCODE.text;
        it.channel.send(opcode, true, payload);
        it.far.send(opcode, true, payload);
      }
      for (const messages of [
        await it.far.messages(LENGTHS.length),
        await near.wholeMessages(LENGTHS.length),
      ]) {
        expect(messages.map(({ payload }) => payload.length)).toEqual(LENGTHS);
        for (const [index, message] of messages.entries()) {
          expect(message.opcode).toBe(index % 2 === 0 ? OPCODE.binary : OPCODE.text);
          expect(message.payload.equals(patterned(LENGTHS[index] ?? 0, index))).toBe(true);
        }
      }
    });

    test('send() takes a copy: the caller may use its buffer again at once', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      const buffer = Buffer.alloc(70_000);
      for (let i = 0; i < 30; i += 1) near.channel.send(OPCODE.binary, true, buffer.fill(i));
      const messages = await it.far.messages(30);
      expect(messages.every(({ payload }, i) => payload.equals(Buffer.alloc(70_000, i)))).toBe(
        true,
      );
    });

    test('keeps the order of many small messages', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      for (let i = 0; i < 5_000; i += 1) {
        near.channel.send(OPCODE.text, true, Buffer.from(`out ${i}`));
        it.far.send(OPCODE.text, true, Buffer.from(`in ${i}`));
      }
      const outward = await it.far.messages(5_000);
      const inward = await near.wholeMessages(5_000);
      expect(outward.every(({ payload }, i) => payload.toString() === `out ${i}`)).toBe(true);
      expect(inward.every(({ payload }, i) => payload.toString() === `in ${i}`)).toBe(true);
    });

    test('a message may be sent in fragments, with empty ones among them', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      near.channel.send(OPCODE.text, false, Buffer.from('one '));
      near.channel.send(OPCODE.continuation, false, Buffer.alloc(0));
      near.channel.send(OPCODE.continuation, false, Buffer.from('two '));
      near.channel.send(OPCODE.continuation, true, Buffer.from('three'));
      near.channel.send(OPCODE.binary, false, Buffer.from('four'));
      near.channel.send(OPCODE.continuation, true, Buffer.alloc(0));
      const messages = await it.far.messages(2);
      expect(messages.map(({ opcode, payload }) => [opcode, payload.toString()])).toEqual([
        [OPCODE.text, 'one two three'],
        [OPCODE.binary, 'four'],
      ]);
    });

    test('receives a message sent in fragments', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      it.far.send(OPCODE.text, false, Buffer.from('one '));
      it.far.send(OPCODE.continuation, false, CHUNK);
      it.far.send(OPCODE.continuation, true, Buffer.from('three'));
      const [message] = await near.wholeMessages(1);
      expect(message?.opcode).toBe(OPCODE.text);
      expect(message?.payload.length).toBe(CHUNK.length + 9);
    });

    if (promises('cut-through')) {
      test('passes on the parts of a message before its end is there', async () => {
        await using it = await open();
        const near = new ChannelRecord(it.channel);
        it.far.send(OPCODE.binary, false, Buffer.from('begun'));
        await near.had('fragment');
        expect(near.fragments[0]).toMatchObject({ opcode: OPCODE.binary, fin: false });
        near.channel.send(OPCODE.binary, false, Buffer.from('begun, too'));
        await until('half a message arrives', () => it.far.bytesHad === 10);
      });
    }

    test('says nothing before the first resume()', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel, false);
      it.far.send(OPCODE.text, true, Buffer.from('early'));
      near.channel.send(OPCODE.text, true, Buffer.from('there and back'));
      await it.far.messages(1);
      expect(near.types).toEqual([]);
      near.channel.resume();
      await near.wholeMessages(1);
    });

    test('pause() in the middle of a fragment holds all others back until resume()', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      near.onFragment = () => near.channel.pause();
      for (let i = 0; i < 10; i += 1) it.far.send(OPCODE.text, true, Buffer.from(`${i}`));
      for (let i = 0; i < 10; i += 1) {
        await near.had('fragment', i + 1);
        near.channel.send(OPCODE.text, true, Buffer.from('there and back'));
        await it.far.messages(i + 1);
        expect(near.messages().map(({ payload }) => payload.toString())).toHaveLength(i + 1);
        near.channel.resume();
      }
      expect(
        near
          .messages()
          .map(({ payload }) => payload.toString())
          .join(''),
      ).toBe('0123456789');
    });

    test('pause() and resume() within one fragment change nothing', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      near.onFragment = () => {
        near.channel.pause();
        near.channel.resume();
      };
      for (let i = 0; i < 300; i += 1) it.far.send(OPCODE.binary, true, Buffer.from([i & 255]));
      const messages = await near.wholeMessages(300);
      expect(messages.every(({ payload }, i) => payload[0] === (i & 255))).toBe(true);
    });

    test('a Close arrives with code and reason, after all that was sent before it', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      near.channel.send(OPCODE.binary, true, patterned(300_000, 1));
      near.channel.close(4001, 'Grüße');
      expect(await it.far.closed()).toMatchObject({ code: 4001, reason: 'Grüße' });
      expect((await it.far.messages(1))[0]?.payload.length).toBe(300_000);
    });

    test('the far Close arrives with code and reason, after all that came before it', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      it.far.send(OPCODE.binary, true, patterned(300_000, 1));
      it.far.close(4002, 'so long');
      await near.had('closed');
      expect(near.close()).toMatchObject({ code: 4002, reason: 'so long' });
      expect(near.bytesHad).toBe(300_000);
      expect(near.types.at(-1)).not.toBe('fragment');
    });

    test('only the first close() counts, and what is sent after it goes nowhere', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      near.channel.close(4001, 'first');
      near.channel.close(4002, 'second');
      near.channel.send(OPCODE.text, true, Buffer.from('too late'));
      expect(await it.far.closed()).toMatchObject({ code: 4001, reason: 'first' });
      it.far.close(4001, '');
      await it.far.gone();
      expect(it.far.bytesHad).toBe(0);
    });

    test('is gone once both have closed: once, and last', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      it.far.close(1000, 'done');
      await near.had('closed');
      near.channel.close(1000, 'done');
      await near.had('gone');
      await it.far.gone();
      expect(near.types).toEqual(['closed', 'gone']);
    });

    if (promises('half-close')) {
      test('after its own close() it still receives', async () => {
        await using it = await open();
        const near = new ChannelRecord(it.channel);
        near.channel.close(1000, 'nothing more from here');
        await it.far.closed();
        for (let i = 0; i < 300; i += 1) it.far.send(OPCODE.text, true, Buffer.from(`${i}`));
        it.far.close(1000, '');
        await near.had('gone');
        expect(near.messages()).toHaveLength(300);
        expect(near.types.slice(-2)).toEqual(['closed', 'gone']);
      });

      test('after the far Close it still sends', async () => {
        await using it = await open();
        const near = new ChannelRecord(it.channel);
        it.far.close(1000, 'nothing more from there');
        await near.had('closed');
        for (let i = 0; i < 300; i += 1) near.channel.send(OPCODE.text, true, Buffer.from(`${i}`));
        near.channel.close(1000, '');
        expect(await it.far.messages(300)).toHaveLength(300);
        await it.far.gone();
        await near.had('gone');
      });
    }

    test('is gone without a Close when the far end vanishes, after all that came before', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      it.far.send(OPCODE.text, true, Buffer.from('last words'));
      await near.had('fragment');
      it.far.vanish();
      await near.had('gone');
      expect(near.types).toEqual(['fragment', 'gone']);
    });

    test('destroy() ends both sides without a Close, however often it is called', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      near.channel.destroy();
      near.channel.destroy();
      await near.had('gone');
      await it.far.gone();
      expect(near.types).toEqual(['gone']);
      near.channel.destroy();
      near.channel.close(1000, '');
      near.channel.send(OPCODE.text, true, Buffer.from('nobody'));
      near.channel.pause();
      near.channel.resume();
      expect(near.types).toEqual(['gone']);
    });

    test('destroy() works on a channel that is paused with something waiting', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      near.onFragment = () => near.channel.pause();
      for (let i = 0; i < 10; i += 1) it.far.send(OPCODE.text, true, Buffer.from(`${i}`));
      await near.had('fragment');
      near.channel.destroy();
      await near.had('gone');
      expect(near.types).toEqual(['fragment', 'gone']);
    });

    test('the end is told after what came before it, even to a reader that had paused', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      near.onFragment = () => near.channel.pause();
      for (let i = 0; i < 3; i += 1) it.far.send(OPCODE.text, true, Buffer.from(`${i}`));
      it.far.close(4003, 'end');
      await near.had('fragment');
      near.onFragment = () => {};
      near.channel.send(OPCODE.text, true, Buffer.from('there and back'));
      near.channel.resume();
      await near.had('closed');
      expect(near.types.slice(0, 4)).toEqual(['fragment', 'fragment', 'fragment', 'closed']);
    });

    test('send() says stop when the far end does not read, and drained when it may go on', async () => {
      await using it = await open();
      const near = new ChannelRecord(it.channel);
      it.far.stopReading();
      let sent = 0;
      while (sent < FLOOD_CHUNKS_MAX) {
        sent += 1;
        if (near.channel.send(OPCODE.binary, true, CHUNK)) continue;
        // The kernel takes what it can; when it takes no more there is no `drained`.
        const before = near.count('drained');
        await turns(5);
        if (near.count('drained') === before) break;
      }
      expect(sent).toBeLessThan(FLOOD_CHUNKS_MAX);
      const before = near.count('drained');
      it.far.readOn();
      await near.had('drained', before + 1);
      expect(await it.far.messages(sent)).toHaveLength(sent);
    });

    if (promises('holds-writer')) {
      test('a reader that pauses holds back the far end, and loses nothing', async () => {
        await using it = await open();
        const near = new ChannelRecord(it.channel, false);
        const isWaiting = it.far instanceof FarChannel ? it.far.record : undefined;
        let sent = 0;
        for (; sent < 400; sent += 1) it.far.send(OPCODE.binary, true, CHUNK);
        await turns(50);
        expect(near.bytesHad).toBe(0);
        expect(isWaiting?.count('drained') ?? 0).toBe(0);
        near.channel.resume();
        await near.hadBytes(sent * CHUNK.length);
        expect(near.messages()).toHaveLength(sent);
      });
    }
  });
}

/** Bytes by which a piece that is missing, doubled or misplaced shows. */
export function patterned(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i += 1) bytes[i] = (i * 31 + (i >> 8) + seed * 7) & 255;
  return bytes;
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) await new Promise(resolve => void setImmediate(resolve));
}
