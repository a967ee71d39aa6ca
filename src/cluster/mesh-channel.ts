import type { Socket } from 'node:net';
import type { CancelTimer, Clock } from '../base/clock.ts';
import { IdleTimer } from '../base/idle-timer.ts';
import { FragmentReader } from '../protocol/fragment-reader.ts';
import { FRAGMENT_BYTES_MAX } from '../protocol/frame-relay.ts';
import {
  encodeClosePayload,
  encodeFrameHeader,
  FIN_BIT,
  OPCODES,
  parseClosePayload,
} from '../protocol/frames.ts';
import { OPCODE, type Channel, type ChannelReceiver, type DataOpcode } from '../relay/ports.ts';
import {
  advance,
  canReceive,
  canSend,
  type ChannelEvent,
  type ChannelPhase,
} from './channel-state.ts';
import { TurnWriter } from './turn-writer.ts';

/** Bytes waiting for the other node from which `send` asks to stop. */
export const CHANNEL_QUEUE_BYTES = 131_072;
/** How long the other node has for its FIN when both have closed, before the socket is cut. */
const LINGER_MS = 10_000;
/** How long a closed channel may wait for the other's Close while nothing at all comes in. */
const CLOSE_TIMEOUT_MS = 120_000;

/**
 * A stream from another node as the core's Channel, in JavaScript: fragments as they arrive, both ways.
 * Answers pings; a stream that breaks or carries nonsense is gone without a Close. The socket is paused
 * when it comes and must have `allowHalfOpen`; `rest` is what was read of it.
 */
export class MeshChannel implements Channel {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #onFault: (fault: string) => void;
  readonly #writer: TurnWriter;
  readonly #reader: FragmentReader;
  #receiver: ChannelReceiver | undefined;
  #phase: ChannelPhase = 'open';
  /** Bytes read that the receiver has not had, for it paused within them. */
  #held: Uint8Array | undefined;
  #heldOffset = 0;
  #isPaused = true;
  #isReading = false;
  #isResumeScheduled = false;
  #wantsDrained = false;
  #isSocketClosed = false;
  #isDestroyed = false;
  #cancelLinger: CancelTimer = () => {};
  #closeTimer: IdleTimer | undefined;

  constructor(
    socket: Socket,
    rest: Uint8Array,
    deps: { readonly clock: Clock; readonly onFault: (fault: string) => void },
  ) {
    this.#socket = socket;
    this.#clock = deps.clock;
    this.#onFault = deps.onFault;
    this.#held = rest.length === 0 ? undefined : rest;
    this.#writer = new TurnWriter(socket, () => this.#flushed());
    this.#reader = new FragmentReader({
      fragment: (opcode, isFinal, payload) => this.#fragment(opcode, isFinal, payload),
      control: (opcode, payload) => this.#control(opcode, payload),
    });
  }

  /** Bytes that wait for the other node. */
  get queuedBytes(): number {
    return this.#writer.queuedBytes;
  }

  receive(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    const socket = this.#socket;
    socket.on('data', chunk => this.#received(chunk));
    socket.on('end', () => this.#ended());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#closed());
    if (socket.closed) setImmediate(() => this.#closed());
  }

  send(opcode: DataOpcode, fin: boolean, payload: Uint8Array): boolean {
    if (!canSend(this.#phase)) return true;
    let first: number = opcode;
    let offset = 0;
    // The other end may pass these bytes to its client as they are, and Java's takes no longer frames.
    while (payload.length - offset > FRAGMENT_BYTES_MAX) {
      const part = payload.subarray(offset, offset + FRAGMENT_BYTES_MAX);
      this.#writer.write(encodeFrameHeader(first, part.length), part);
      first = OPCODES.continuation;
      offset += FRAGMENT_BYTES_MAX;
    }
    const last = payload.subarray(offset);
    this.#writer.write(encodeFrameHeader((fin ? FIN_BIT : 0) | first, last.length), last);
    if (this.#writer.queuedBytes < CHANNEL_QUEUE_BYTES) return true;
    this.#wantsDrained = true;
    return false;
  }

  close(code: number, reason: string): void {
    if (!canSend(this.#phase)) return;
    const payload = encodeClosePayload(code === 1005 ? undefined : code, reason);
    this.#writer.write(encodeFrameHeader(FIN_BIT | OPCODES.close, payload.length), payload);
    this.#writer.flush();
    this.#move('sent');
    if (this.#phase === 'close-sent') {
      this.#closeTimer = new IdleTimer(this.#clock, CLOSE_TIMEOUT_MS, () => this.#socket.destroy());
    }
  }

  destroy(): void {
    this.#isDestroyed = true;
    this.#held = undefined;
    this.#socket.destroy();
  }

  pause(): void {
    this.#isPaused = true;
    this.#reader.stop();
    // What follows both Closes is nobody's: it is read to see the end.
    if (this.#phase !== 'closing') this.#socket.pause();
  }

  resume(): void {
    this.#isPaused = false;
    if (this.#isResumeScheduled || this.#isReading) return;
    this.#isResumeScheduled = true;
    setImmediate(() => {
      this.#isResumeScheduled = false;
      if (!this.#isPaused) this.#readOn();
    });
  }

  #received(chunk: Uint8Array): void {
    this.#closeTimer?.touch();
    if (!canReceive(this.#phase) || this.#isDestroyed) return;
    this.#held = chunk;
    this.#heldOffset = 0;
    if (!this.#isPaused) this.#readOn();
  }

  /** Hands on what is held, then lets the socket go on, as long as nobody pauses. */
  #readOn(): void {
    const held = this.#held;
    if (held !== undefined) {
      this.#isReading = true;
      let offset = this.#heldOffset;
      // Someone may pause and resume within one call.
      do {
        offset = this.#reader.read(held, offset);
      } while (!this.#isPaused && this.#canReadOn(held, offset));
      this.#isReading = false;
      this.#heldOffset = offset;
      if (!this.#canReadOn(held, offset)) this.#held = undefined;
      if (this.#reader.fault !== undefined) this.#broken(this.#reader.fault);
    }
    if (this.#isPaused || this.#held !== undefined) return;
    if (this.#isSocketClosed) this.#closed();
    else this.#socket.resume();
  }

  #canReadOn(held: Uint8Array, offset: number): boolean {
    const isLeft = offset < held.length && this.#held === held;
    return isLeft && this.#reader.fault === undefined && canReceive(this.#phase);
  }

  #fragment(opcode: number, isFinal: boolean, payload: Uint8Array): void {
    if (!canReceive(this.#phase)) return;
    this.#receiver?.fragment(dataOpcodeOf(opcode), isFinal, payload);
  }

  #control(opcode: number, payload: Uint8Array): void {
    if (!canReceive(this.#phase)) return;
    if (opcode === OPCODES.close) {
      const { code, reason } = parseClosePayload(payload);
      this.#reader.stop();
      this.#move('received');
      this.#receiver?.closed(code, reason);
    } else if (opcode === OPCODES.ping && canSend(this.#phase)) {
      // Whoever does not read its pongs gets no more of them.
      if (this.#writer.queuedBytes > CHANNEL_QUEUE_BYTES) return;
      this.#writer.write(encodeFrameHeader(FIN_BIT | OPCODES.pong, payload.length), payload);
    }
  }

  #broken(fault: string): void {
    this.destroy();
    this.#onFault(fault);
  }

  /** The other node sent its FIN: in order after its Close, a break before it. */
  #ended(): void {
    if (canReceive(this.#phase)) this.#socket.destroy();
  }

  #closed(): void {
    this.#isSocketClosed = true;
    // What came before the end is delivered before it is told.
    if (this.#held !== undefined || this.#phase === 'gone') return;
    this.#move('gone');
    this.#closeTimer?.stop();
    this.#cancelLinger();
    this.#receiver?.gone();
  }

  #flushed(): void {
    if (!this.#wantsDrained || this.#writer.queuedBytes > 0 || this.#phase === 'gone') return;
    this.#wantsDrained = false;
    this.#receiver?.drained();
  }

  #move(event: ChannelEvent): void {
    this.#phase = advance(this.#phase, event);
    if (this.#phase !== 'closing') return;
    this.#closeTimer?.stop();
    this.#writer.flush();
    this.#socket.end();
    this.#socket.resume();
    this.#cancelLinger = this.#clock.after(LINGER_MS, () => this.#socket.destroy());
  }
}

/** Control frames do not come here, so two opcodes and the continuation are all there is. */
function dataOpcodeOf(opcode: number): DataOpcode {
  return opcode === OPCODE.text || opcode === OPCODE.binary ? opcode : OPCODE.continuation;
}
