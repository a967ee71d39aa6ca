import { CLOSE_CODE_LOST, OPCODES } from '../protocol/frames.ts';
import type { FrameChannel } from './frame-channel.ts';
import { RelayError } from './relay-error.ts';

/** A piece of a message. */
export interface Fragment {
  readonly data: Buffer;
  /** Of the message: bytes, or UTF-8 text, which may be cut within a character. */
  readonly isBinary: boolean;
  /** Whether the message ends here. */
  readonly isLast: boolean;
}

/** Bytes that may wait for a reader before nothing more is read from the channel, and below which it goes on. */
const QUEUED_BYTES_MAX = 1_048_576;
const QUEUED_BYTES_LOW = 262_144;
/** What a fragment costs besides its bytes, so that a million empty ones are not for free. */
const FRAGMENT_COST_BYTES = 64;

/** What has come and nobody has read yet, in order; stops the channel while it is full. */
export class FragmentQueue {
  readonly #channel: Pick<FrameChannel, 'pause' | 'resume'>;
  #fragments: Fragment[] = [];
  #next = 0;
  #bytes = 0;
  #isPaused = false;
  #isBinary = false;
  #end: 'closed' | RelayError | undefined;
  #waiting: (() => void)[] = [];

  constructor(channel: Pick<FrameChannel, 'pause' | 'resume'>) {
    this.#channel = channel;
  }

  /** Whether the peer's Close has come and all before it was read. */
  get isRead(): boolean {
    return this.#end !== undefined && this.#next === this.#fragments.length;
  }

  put(opcode: number, isLast: boolean, data: Buffer): void {
    if (this.#end !== undefined) return;
    if (opcode !== OPCODES.continuation) this.#isBinary = opcode === OPCODES.binary;
    this.#fragments.push({ data, isBinary: this.#isBinary, isLast });
    this.#bytes += data.length + FRAGMENT_COST_BYTES;
    if (this.#bytes > QUEUED_BYTES_MAX && !this.#isPaused) {
      this.#isPaused = true;
      this.#channel.pause();
    }
    this.#wake();
  }

  /** Nothing more will come: the peer has closed, or the connection broke. */
  end(why: 'closed' | RelayError): void {
    this.#end ??= why;
    this.#wake();
  }

  /** Throws away what waits, and what is still to come. */
  discard(): void {
    this.#end ??= 'closed';
    this.#fragments = [];
    this.#next = 0;
    this.#bytes = 0;
    this.#goOn();
    this.#wake();
  }

  /** What is next; undefined while nothing is there, or when all has been read. Throws once it ends in an error. */
  take(): Fragment | undefined {
    const fragment = this.#fragments[this.#next];
    if (fragment === undefined) {
      if (this.#end instanceof RelayError) throw this.#end;
      return undefined;
    }
    this.#next += 1;
    // Cut off what was read now and then: `shift` would move all others each time.
    if (this.#next === this.#fragments.length || this.#next > 1_024) {
      this.#fragments = this.#fragments.slice(this.#next);
      this.#next = 0;
    }
    this.#bytes -= fragment.data.length + FRAGMENT_COST_BYTES;
    if (this.#bytes < QUEUED_BYTES_LOW) this.#goOn();
    return fragment;
  }

  /** Resolves when `take` has something to say: a fragment, or the end. */
  ready(): Promise<void> {
    if (this.#next < this.#fragments.length || this.#end !== undefined) return Promise.resolve();
    return new Promise(resolve => void this.#waiting.push(resolve));
  }

  #goOn(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#channel.resume();
  }

  #wake(): void {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/** How a direction ended without a Close frame of the peer, or by one that is not a good end. */
export function lostError(code: number, reason: string): RelayError {
  const message =
    code === CLOSE_CODE_LOST
      ? 'The connection broke: the other side, or the way to it, is gone'
      : `The other side ended the connection with ${code} ${reason}`.trimEnd();
  return new RelayError('ConnectionLost', message, { isTransient: true });
}
