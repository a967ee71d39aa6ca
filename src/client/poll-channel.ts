import { assert } from '../base/assert.ts';
import {
  CLOSE_CODE_LOST,
  CLOSE_CODE_NONE,
  OPCODES,
  parseClosePayload,
} from '../protocol/frames.ts';
import type { PollFrame } from '../protocol/poll-frames.ts';
import type { ChannelEvents, FrameChannel, TransportName } from './frame-channel.ts';
import { endSession, PollRequests, type SessionDeps, type SessionPlace } from './poll-requests.ts';
import { SessionFrames } from './session-frames.ts';

/** Bytes that were sent and are not acknowledged, from which `send` asks to stop; `drained` comes at half of them. */
const KEPT_BYTES_MAX = 1_048_576;

/**
 * A long-poll session as a channel. Sessions carry what a WebSocket carries and never lose a frame
 * without saying so: what is on the way when a request fails is sent again.
 *
 *     open ── Close sent and acknowledged, Close received and read, in any order ──▶ gone
 *     any ── destroyed, expired, or over at the relay ──▶ gone
 */
export class PollChannel implements FrameChannel {
  readonly protocol: string;
  readonly transport: TransportName = 'poll';
  readonly #place: SessionPlace;
  readonly #deps: SessionDeps;
  readonly #frames: SessionFrames;
  readonly #requests: PollRequests;
  #events: ChannelEvents | undefined;
  #isPaused = false;
  #isDelivering = false;
  #wantsDrained = false;
  /** Code of the peer's Close frame, once it was handed on. */
  #closeReceived: number | undefined;
  /** The session has ended at the relay, or cannot go on. */
  #lostCode: number | undefined;
  #isGone = false;

  constructor(place: SessionPlace, deps: SessionDeps) {
    this.#place = place;
    this.#deps = deps;
    this.protocol = place.terms.protocol;
    this.#frames = new SessionFrames(place.terms.credit, () => this.#news());
    this.#requests = new PollRequests(place, deps, {
      frames: this.#frames,
      onLost: code => this.#lose(code),
    });
  }

  receive(events: ChannelEvents): void {
    this.#events = events;
    this.#deliver();
    this.#endWhenDone();
  }

  send(opcode: number, fin: boolean, payload: Uint8Array): boolean {
    assert(opcode === 0 || opcode === 1 || opcode === 2, 'only data frames are sent');
    if (this.#frames.outgoing.isClosed || this.#lostCode !== undefined) return true;
    this.#frames.outgoing.push(opcode, fin, payload);
    this.#requests.wake();
    if (this.#frames.outgoing.keptBytes >= KEPT_BYTES_MAX) this.#wantsDrained = true;
    return !this.#wantsDrained;
  }

  close(code = CLOSE_CODE_NONE, reason = ''): void {
    this.#frames.outgoing.close(code, reason);
    this.#requests.wake();
  }

  destroy(): void {
    if (this.#lostCode === undefined) void endSession(this.#place, this.#deps);
    this.#requests.stop();
    this.#lostCode ??= CLOSE_CODE_LOST;
    this.#go(CLOSE_CODE_LOST);
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#deliver();
    this.#endWhenDone();
  }

  /** Frames or acknowledgements have come. */
  #news(): void {
    if (this.#wantsDrained && this.#frames.outgoing.keptBytes <= KEPT_BYTES_MAX / 2) {
      this.#wantsDrained = false;
      this.#events?.drained?.();
    }
    // There may be credit for what had to wait.
    this.#requests.wake();
    this.#deliver();
    this.#endWhenDone();
  }

  #deliver(): void {
    const events = this.#events;
    if (events === undefined || this.#isDelivering) return;
    this.#isDelivering = true;
    while (!this.#isPaused && !this.#isGone) {
      const frame = this.#frames.incoming.read();
      if (frame === undefined) break;
      this.#hand(frame, events);
    }
    this.#isDelivering = false;
    if (this.#frames.owesCredit) this.#requests.wake();
  }

  #hand({ opcode, isFinal, payload }: PollFrame, events: ChannelEvents): void {
    if (opcode !== OPCODES.close) {
      const { buffer, byteOffset, byteLength } = payload;
      events.fragment(opcode, isFinal, Buffer.from(buffer, byteOffset, byteLength));
      return;
    }
    const { code, reason } = parseClosePayload(payload);
    this.#closeReceived = code;
    events.closed(code, reason);
  }

  #endWhenDone(): void {
    if (this.#isDelivering || this.#isGone) return;
    const isOver = this.#lostCode !== undefined;
    // What came before the end is still there to be read, if it came whole.
    if (isOver && (this.#closeReceived !== undefined || !this.#frames.incoming.isClosed)) {
      this.#go(this.#closeReceived ?? this.#lostCode ?? CLOSE_CODE_LOST);
      return;
    }
    if (this.#closeReceived === undefined || !this.#frames.outgoing.isDelivered) return;
    this.#requests.stop();
    void endSession(this.#place, this.#deps);
    this.#go(this.#closeReceived);
  }

  #lose(code: number): void {
    this.#lostCode = code;
    // One that cannot go on here is not yet over at the relay.
    if (code !== CLOSE_CODE_LOST) void endSession(this.#place, this.#deps);
    this.#endWhenDone();
  }

  /** The last event, once, and never from within a call of the channel's user. */
  #go(code: number): void {
    const events = this.#events;
    if (this.#isGone || events === undefined) return;
    this.#isGone = true;
    queueMicrotask(() => events.gone(code));
  }
}
