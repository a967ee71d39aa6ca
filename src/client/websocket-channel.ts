import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { IdleTimer } from '../base/idle-timer.ts';
import {
  CLOSE_CODE_LOST,
  CLOSE_CODE_NONE,
  encodeClosePayload,
  OPCODES,
  parseClosePayload,
} from '../protocol/frames.ts';
import type { ChannelEvents, FrameChannel } from './frame-channel.ts';
import { FrameReader } from './frame-reader.ts';
import { encodeMaskedFrame } from './masked-frame.ts';

/** Silence after which a ping is sent: some intermediaries cut what is silent for 20 s. */
export const PING_AFTER_MS = 15_000;
/** How long the other end may take to end the connection after both have closed. */
const CLOSE_TIMEOUT_MS = 10_000;
/** Bytes waiting to be sent with which pings are no longer answered. */
const ANSWERED_BELOW_BYTES = 1_048_576;
const NOTHING = Buffer.alloc(0);

export interface ChannelStart {
  /** What came behind the answer to the handshake. */
  readonly head: Buffer;
  readonly protocol: string;
  readonly clock: Clock;
  readonly cutsWhenSilent: boolean;
  /** See `DialOptions`. */
  readonly firstPongTimeoutMs?: number | undefined;
}

/**
 * An open WebSocket, which the usual packages would not do for: they hand out whole messages, and
 * answer Close by themselves.
 *
 *     open ── close sent and close received, in any order ──▶ ending ──▶ gone
 *     any ── destroyed, broken, or against the RFC ──▶ gone
 */
export class WebSocketChannel implements FrameChannel {
  readonly protocol: string;
  readonly transport = 'websocket';
  readonly #stream: Duplex;
  readonly #clock: Clock;
  readonly #cutsWhenSilent: boolean;
  readonly #firstPongTimeoutMs: number | undefined;
  #head: Buffer;
  #events: ChannelEvents | undefined;
  #isCloseSent = false;
  #closeReceived: number | undefined;
  #isFailed = false;
  #silence: IdleTimer | undefined;
  /** Whether nothing has come since the last ping. */
  #isPingUnanswered = false;

  constructor(stream: Duplex, start: ChannelStart) {
    this.#stream = stream;
    this.#head = start.head;
    this.#clock = start.clock;
    this.#cutsWhenSilent = start.cutsWhenSilent;
    this.#firstPongTimeoutMs = start.firstPongTimeoutMs;
    this.protocol = start.protocol;
    if (stream instanceof Socket) stream.setNoDelay(true);
    // Without a listener an error between handshake and `receive` would end the process.
    stream.on('error', () => stream.destroy());
  }

  receive(events: ChannelEvents): void {
    this.#events = events;
    const reader = new FrameReader({
      data: (opcode, fin, payload) => {
        if (this.#closeReceived === undefined) events.fragment(opcode, fin, payload);
      },
      control: (opcode, payload) => this.#control(opcode, payload),
    });
    const read = (chunk: Buffer): void => {
      if (this.#isFailed) return;
      this.#silence?.touch();
      this.#isPingUnanswered = false;
      const fault = reader.push(chunk);
      if (fault !== undefined) this.#fail(fault);
    };
    this.#stream.on('drain', () => events.drained?.());
    this.#stream.on('end', () => this.#stream.destroy());
    if (this.#stream.closed) {
      events.gone(CLOSE_CODE_LOST);
      return;
    }
    this.#stream.once('close', () => {
      this.#silence?.stop();
      events.gone(this.#closeReceived ?? CLOSE_CODE_LOST);
    });
    this.#watchSilence();
    if (this.#firstPongTimeoutMs !== undefined) this.#expectPong(this.#firstPongTimeoutMs);
    const head = this.#head;
    this.#head = NOTHING;
    if (head.length > 0) read(head);
    this.#stream.on('data', read);
  }

  send(opcode: number, fin: boolean, payload: Uint8Array): boolean {
    if (this.#isCloseSent) return true;
    // Whoever writes as long as there is room would never see it go.
    if (this.#stream.destroyed) return false;
    return this.#stream.write(encodeMaskedFrame(opcode, fin, payload));
  }

  close(code = CLOSE_CODE_NONE, reason = ''): void {
    if (this.#isCloseSent || this.#stream.destroyed) return;
    const payload = encodeClosePayload(code === CLOSE_CODE_NONE ? undefined : code, reason);
    this.#stream.write(encodeMaskedFrame(OPCODES.close, true, payload));
    this.#isCloseSent = true;
    this.#endWhenBothClosed();
  }

  destroy(): void {
    this.#stream.destroy();
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  #control(opcode: number, payload: Buffer): void {
    // Who asks and does not read the answers is not to fill our memory with them.
    const mayAnswer = this.#stream.writableLength < ANSWERED_BELOW_BYTES;
    if (opcode === OPCODES.ping && mayAnswer) this.send(OPCODES.pong, true, payload);
    if (opcode !== OPCODES.close || this.#closeReceived !== undefined) return;
    const { code, reason } = parseClosePayload(payload);
    this.#closeReceived = code;
    this.#events?.closed(code, reason);
    this.#endWhenBothClosed();
  }

  /** The other end speaks something else: tell it, and leave. */
  #fail(fault: string): void {
    this.#isFailed = true;
    this.close(1002, `The frames cannot be read: ${fault}`);
    const cancel = this.#clock.after(CLOSE_TIMEOUT_MS, () => this.destroy());
    this.#stream.once('close', cancel);
    this.#stream.end(() => this.destroy());
  }

  #expectPong(timeoutMs: number): void {
    this.send(OPCODES.ping, true, NOTHING);
    this.#isPingUnanswered = true;
    const cancel = this.#clock.after(timeoutMs, () => {
      if (this.#isPingUnanswered) this.destroy();
    });
    this.#stream.once('close', cancel);
  }

  #watchSilence(): void {
    this.#silence = new IdleTimer(this.#clock, PING_AFTER_MS, () => {
      if (this.#isPingUnanswered && this.#cutsWhenSilent) {
        this.destroy();
        return;
      }
      // Where bytes wait to be sent, one more frame tells nothing.
      if (!this.#stream.writableNeedDrain) this.send(OPCODES.ping, true, NOTHING);
      this.#isPingUnanswered = true;
      this.#watchSilence();
    });
  }

  /** The server ends the TCP connection, as the RFC wants it; a server that does not is cut. */
  #endWhenBothClosed(): void {
    if (!this.#isCloseSent || this.#closeReceived === undefined) return;
    const cancel = this.#clock.after(CLOSE_TIMEOUT_MS, () => this.destroy());
    this.#stream.once('close', cancel);
    // The end of the stream is seen only while it is read.
    this.#stream.resume();
  }
}
