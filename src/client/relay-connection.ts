import type { Duplex } from 'node:stream';
import type { CancelTimer, Clock } from '../base/clock.ts';
import { CLOSE_CODE_LOST, CLOSE_CODE_NONE, isCloseCodeOnWire } from '../protocol/frames.ts';
import { connectionDuplex } from './connection-duplex.ts';
import { FragmentQueue, lostError, type Fragment } from './fragment-queue.ts';
import type { FrameChannel, TransportName } from './frame-channel.ts';
import { Later } from './later.ts';
import { MessageSender } from './message-sender.ts';
import { RelayError } from './relay-error.ts';

/** A message as a whole; text is a string. */
export type Message =
  | { readonly isBinary: true; readonly data: Buffer }
  | { readonly isBinary: false; readonly data: string };

/** A Close frame: 1005 when it had no code, 1006 when the connection ended without one. */
export interface CloseInfo {
  readonly code: number;
  readonly reason: string;
}

export interface ConnectionOptions {
  /** Longest message that is put together for an iterator; 64 MiB by default. Longer ones can be read as fragments. */
  readonly messageBytesMax?: number;
  /**
   * Whether this side stays open when the other one has closed and all it sent was read. False by
   * default: then it closes by itself, with the same code.
   */
  readonly allowHalfOpen?: boolean;
}

const MESSAGE_BYTES_MAX = 67_108_864;
/** How long `close` waits for the peer's Close. */
const CLOSE_TIMEOUT_MS = 10_000;

/**
 * A connection between a sender and a listener: messages both ways, each direction until its own
 * Close. What is not read is not fetched: a megabyte waits here, the rest at the other side.
 */
export class RelayConnection {
  /** Resolves when the peer has closed or the connection has ended, with the peer's Close; never rejects. */
  readonly closed: Promise<CloseInfo>;
  readonly #channel: FrameChannel;
  readonly #clock: Clock;
  readonly #queue: FragmentQueue;
  readonly #sender: MessageSender;
  readonly #messageBytesMax: number;
  readonly #gone = new Later<void>();
  #allowHalfOpen: boolean;
  #isEnded = false;
  #isBeingRead = false;
  #peerClose: CloseInfo | undefined;
  readonly #onMoved = new Set<(transport: TransportName) => void>();

  constructor(channel: FrameChannel, options: ConnectionOptions & { readonly clock: Clock }) {
    this.#channel = channel;
    this.#clock = options.clock;
    this.#messageBytesMax = options.messageBytesMax ?? MESSAGE_BYTES_MAX;
    this.#allowHalfOpen = options.allowHalfOpen === true;
    this.#queue = new FragmentQueue(channel);
    this.#sender = new MessageSender(channel);
    const closed = new Later<CloseInfo>();
    this.closed = closed.promise;
    channel.receive({
      fragment: (opcode, fin, payload) => this.#queue.put(opcode, fin, payload),
      drained: () => this.#sender.drained(),
      moved: transport => {
        for (const observer of this.#onMoved) observer(transport);
      },
      closed: (code, reason) => {
        this.#peerClose = { code, reason };
        this.#queue.end('closed');
        closed.resolve(this.#peerClose);
        this.#answerClose();
      },
      gone: () => {
        if (this.#peerClose === undefined) {
          this.#peerClose = { code: CLOSE_CODE_LOST, reason: '' };
          // After `close` or `destroy` nobody is waiting for more.
          this.#queue.end(this.#isEnded ? 'closed' : lostError(CLOSE_CODE_LOST, ''));
          closed.resolve(this.#peerClose);
        }
        this.#sender.fail(lostError(CLOSE_CODE_LOST, ''));
        this.#gone.resolve();
      },
    });
  }

  /** The subprotocol; '' when none. */
  get protocol(): string {
    return this.#channel.protocol;
  }

  /** What carries it now. */
  get transport(): TransportName {
    return this.#channel.transport;
  }

  /** Calls back when the connection goes on over another transport. Returns what ends that. */
  onTransportChange(observer: (transport: TransportName) => void): () => void {
    this.#onMoved.add(observer);
    return () => void this.#onMoved.delete(observer);
  }

  /**
   * Sends one message. Resolves when more may be sent: wait for it, or what the other side does not
   * take piles up here. Messages go out in the order of the calls. Rejects with `Closed` or
   * `ConnectionLost`.
   */
  send(data: string | Uint8Array): Promise<void> {
    return this.#sender.send(data);
  }

  /**
   * Sends one message of any length, piece by piece as they come; others wait until it is through. When
   * the source fails, the connection breaks, because a message cannot be taken back.
   */
  sendStream(
    source: AsyncIterable<string | Uint8Array>,
    options: { readonly isText?: boolean } = {},
  ): Promise<void> {
    return this.#sender.sendStream(source, options.isText === true);
  }

  /**
   * The next message; undefined when the peer has closed. Throws when the connection breaks, or when
   * the message is too long, which closes it with 1009.
   */
  async receive(): Promise<Message | undefined> {
    this.#beginReading();
    try {
      const parts: Buffer[] = [];
      let size = 0;
      for (;;) {
        const fragment = await this.#nextFragment();
        if (fragment === undefined) {
          if (parts.length === 0) return undefined;
          const message = 'The other side closed in the middle of a message';
          throw new RelayError('ConnectionLost', message);
        }
        parts.push(fragment.data);
        size += fragment.data.length;
        if (size > this.#messageBytesMax) throw this.#tooLong();
        if (!fragment.isLast) continue;
        const data = parts.length === 1 ? fragment.data : Buffer.concat(parts);
        return fragment.isBinary
          ? { isBinary: true, data }
          : { isBinary: false, data: data.toString('utf8') };
      }
    } finally {
      this.#isBeingRead = false;
    }
  }

  /** Message by message until the peer closes; throws as `receive` does. Leaving the loop closes nothing. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Message, void, undefined> {
    for (;;) {
      const message = await this.receive();
      if (message === undefined) return;
      yield message;
    }
  }

  /** Piece by piece as they come, for messages of any length. In place of the messages, not beside them. */
  async *fragments(): AsyncGenerator<Fragment, void, undefined> {
    this.#beginReading();
    try {
      for (;;) {
        const fragment = await this.#nextFragment();
        if (fragment === undefined) return;
        yield fragment;
      }
    } finally {
      this.#isBeingRead = false;
    }
  }

  /**
   * Closes this direction, when what was given to `send` is through; what the peer still sends goes on
   * arriving.
   */
  async end(code = 1000, reason = ''): Promise<void> {
    checkCloseCode(code);
    this.#isEnded = true;
    await this.#sender.close(code, reason);
  }

  /** Closes both ways: what has not been read is thrown away. Resolves with the peer's Close, at the latest after 10 s. */
  async close(code = 1000, reason = ''): Promise<CloseInfo> {
    checkCloseCode(code);
    this.#isEnded = true;
    this.#queue.discard();
    let cancel: CancelTimer | undefined;
    const late = new Promise<void>(resolve => {
      cancel = this.#clock.after(CLOSE_TIMEOUT_MS, () => {
        this.destroy();
        resolve();
      });
    });
    await Promise.race([this.#sender.close(code, reason).catch(() => undefined), late]);
    const close = await this.closed;
    cancel?.();
    return close;
  }

  /** Breaks the connection: the other side sees an abnormal end. Safe to call twice. */
  destroy(): void {
    this.#isEnded = true;
    this.#queue.discard();
    this.#sender.fail(new RelayError('Closed', 'The connection was destroyed here'));
    this.#channel.destroy();
  }

  /** Resolves when nothing of it is left, at whichever side it ended. */
  gone(): Promise<void> {
    return this.#gone.promise;
  }

  /**
   * The connection as a stream of bytes, as for TCP: what is written goes out as binary messages, the
   * bounds of those that come are ignored; `end()` closes one direction. An end of the peer's other
   * than 1000, or none, is an error of the stream. In place of the messages, not beside them.
   */
  duplex(): Duplex {
    this.#beginReading();
    this.#allowHalfOpen = true;
    return connectionDuplex(this, this.#queue);
  }

  /** Whoever reads takes away what others would miss. */
  #beginReading(): void {
    if (this.#isBeingRead) throw new Error('The connection is being read already');
    this.#isBeingRead = true;
  }

  async #nextFragment(): Promise<Fragment | undefined> {
    for (;;) {
      const fragment = this.#queue.take();
      if (fragment !== undefined) return fragment;
      if (this.#queue.isRead) {
        this.#answerClose();
        return undefined;
      }
      await this.#queue.ready();
    }
  }

  #tooLong(): RelayError {
    this.close(1009, 'The message is too long').catch(() => undefined);
    const message = `A message is longer than messageBytesMax, ${this.#messageBytesMax} bytes: raise it, or read fragments()`;
    return new RelayError('ProtocolError', message);
  }

  /** Once all has been read that came before the peer's Close. */
  #answerClose(): void {
    const close = this.#peerClose;
    if (close === undefined || this.#isEnded || this.#allowHalfOpen || !this.#queue.isRead) return;
    if (close.code === CLOSE_CODE_LOST) return;
    this.#isEnded = true;
    const code = close.code === CLOSE_CODE_NONE ? undefined : close.code;
    this.#sender.close(code, close.reason).catch(() => undefined);
  }
}

function checkCloseCode(code: number): void {
  if (Number.isInteger(code) && isCloseCodeOnWire(code)) return;
  throw new RangeError(`A close code is 1000 to 1003, 1007 to 1011 or 3000 to 4999, got ${code}`);
}
