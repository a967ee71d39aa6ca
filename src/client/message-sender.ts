import { OPCODES } from '../protocol/frames.ts';
import type { FrameChannel } from './frame-channel.ts';
import { RelayError } from './relay-error.ts';

/** Longest piece that is given to the channel at once: more would wait in memory a second time. */
const PIECE_BYTES_MAX = 65_536;
const NOTHING = Buffer.alloc(0);

/** Writes messages one after another, each as fast as the channel takes it. */
export class MessageSender {
  readonly #channel: FrameChannel;
  /** Ends when what was given before is through; undefined when nothing is under way. */
  #last: Promise<void> | undefined;
  #isClosing = false;
  #error: RelayError | undefined;
  #onDrained: (() => void) | undefined;
  #isFull = false;

  constructor(channel: FrameChannel) {
    this.#channel = channel;
  }

  send(data: string | Uint8Array): Promise<void> {
    const opcode = typeof data === 'string' ? OPCODES.text : OPCODES.binary;
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    if (this.#last !== undefined || this.#isFull || this.#isClosing || this.#error !== undefined) {
      return this.#enqueue(() => this.#message(opcode, bytes));
    }
    // The usual case takes no turn of the event loop.
    if (bytes.length <= PIECE_BYTES_MAX) {
      if (this.#channel.send(opcode, true, bytes)) return Promise.resolve();
      this.#isFull = true;
      return this.#enqueue(() => this.#room());
    }
    return this.#enqueue(() => this.#message(opcode, bytes));
  }

  sendStream(source: AsyncIterable<string | Uint8Array>, isText: boolean): Promise<void> {
    return this.#enqueue(() => this.#stream(source, isText));
  }

  /** Sends the Close frame behind all messages. */
  async close(code: number | undefined, reason: string): Promise<void> {
    if (this.#isClosing) {
      await this.#last;
      return;
    }
    const before = this.#last;
    this.#isClosing = true;
    // A message that could not be sent was told to whoever sent it.
    await before?.catch(() => undefined);
    if (this.#error === undefined) this.#channel.close(code, reason);
  }

  drained(): void {
    this.#isFull = false;
    this.#onDrained?.();
    this.#onDrained = undefined;
  }

  /** Nothing can be sent any more. */
  fail(error: RelayError): void {
    this.#error ??= error;
    this.drained();
  }

  #enqueue(task: () => Promise<void>): Promise<void> {
    if (this.#isClosing) {
      return Promise.reject(new RelayError('Closed', 'The connection was closed at this side'));
    }
    const before = this.#last;
    const run = async (): Promise<void> => {
      await before?.catch(() => undefined);
      this.#check();
      await task();
    };
    const mine = run().finally(() => {
      if (this.#last === mine) this.#last = undefined;
    });
    this.#last = mine;
    return mine;
  }

  async #message(opcode: number, bytes: Uint8Array): Promise<void> {
    await this.#room();
    for (let at = 0, first = opcode; ; first = OPCODES.continuation) {
      const piece = bytes.subarray(at, at + PIECE_BYTES_MAX);
      at += PIECE_BYTES_MAX;
      // Not an empty one more at the end: to some libraries that is the end of everything.
      const isLast = at >= bytes.length;
      await this.#piece(first, isLast, piece);
      if (isLast) return;
    }
  }

  async #stream(source: AsyncIterable<string | Uint8Array>, isText: boolean): Promise<void> {
    let opcode: number = isText ? OPCODES.text : OPCODES.binary;
    try {
      for await (const chunk of source) {
        const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
        for (let at = 0; at < bytes.length; at += PIECE_BYTES_MAX) {
          await this.#piece(opcode, false, bytes.subarray(at, at + PIECE_BYTES_MAX));
          opcode = OPCODES.continuation;
        }
      }
    } catch (error) {
      this.#channel.destroy();
      throw error;
    }
    // Only the end of the source tells which was the last.
    await this.#piece(opcode, true, NOTHING);
  }

  async #piece(opcode: number, isLast: boolean, bytes: Uint8Array): Promise<void> {
    this.#check();
    if (this.#channel.send(opcode, isLast, bytes)) return;
    this.#isFull = true;
    await this.#room();
    this.#check();
  }

  /** Waits while the channel is full. */
  async #room(): Promise<void> {
    if (!this.#isFull || this.#error !== undefined) return;
    await new Promise<void>(resolve => {
      this.#onDrained = resolve;
    });
  }

  #check(): void {
    if (this.#error !== undefined) throw this.#error;
  }
}
