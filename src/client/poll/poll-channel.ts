import { assert } from '../../base/assert.ts';
import {
  CLOSE_CODE_LOST,
  CLOSE_CODE_NONE,
  OPCODES,
  parseClosePayload,
} from '../../protocol/frames.ts';
import type { PollFrame } from '../../protocol/poll-frames.ts';
import type { PollQuestion } from '../../protocol/poll-session.ts';
import type { ChannelEvents, Dial, FrameChannel, TransportName } from '../frame-channel.ts';
import { endSession, PollRequests, type SessionDeps, type SessionPlace } from './poll-requests.ts';
import { SessionFrames } from './session-frames.ts';
import { SessionSocket, type SocketEnd } from './session-socket.ts';
import { EARLY_MS } from '../watched-channel.ts';
import { WayBack } from './way-back.ts';

/** Bytes that were sent and are not acknowledged, from which `send` asks to stop; `drained` comes at half of them. */
const KEPT_BYTES_MAX = 1_048_576;

/**
 * A long-poll session as a channel. Sessions carry what a WebSocket carries and never lose a frame
 * without saying so: what is on the way when a request fails is sent again. A session may go on over a
 * WebSocket, and return to polls when that breaks.
 *
 *     open ── Close sent and acknowledged, Close received and read, in any order ──▶ gone
 *     any ── destroyed, expired, or over at the relay ──▶ gone
 */
export class PollChannel implements FrameChannel {
  readonly protocol: string;
  readonly #place: SessionPlace;
  readonly #deps: SessionDeps;
  readonly #frames: SessionFrames;
  readonly #wayBack: WayBack | undefined;
  #carrier: PollRequests | SessionSocket;
  /** When it last moved to a WebSocket. */
  #movedAtMs = 0;
  #events: ChannelEvents | undefined;
  #isPaused = false;
  #isDelivering = false;
  #wantsDrained = false;
  /** Code of the peer's Close frame, once it was handed on. */
  #closeReceived: number | undefined;
  /** The session has ended at the relay, or cannot go on. */
  #lostCode: number | undefined;
  #isGone = false;

  /** `wayBack`: how it moves to a WebSocket when one passes; undefined: it does not. */
  constructor(place: SessionPlace, deps: SessionDeps, wayBack?: Dial) {
    this.#place = place;
    this.#deps = deps;
    this.protocol = place.terms.protocol;
    this.#frames = new SessionFrames(place.terms.credit, () => this.#news());
    this.#carrier = this.#poll();
    if (wayBack !== undefined) {
      this.#wayBack = new WayBack(place, deps, {
        dial: wayBack,
        attempt: open => this.#attempt(open),
      });
    }
  }

  get transport(): TransportName {
    return this.#carrier instanceof PollRequests ? 'poll' : 'websocket';
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
    this.#carrier.wake();
    if (this.#frames.outgoing.keptBytes >= KEPT_BYTES_MAX) this.#wantsDrained = true;
    return !this.#wantsDrained;
  }

  close(code = CLOSE_CODE_NONE, reason = ''): void {
    this.#frames.outgoing.close(code, reason);
    this.#carrier.wake();
  }

  destroy(): void {
    if (this.#lostCode === undefined) void endSession(this.#place, this.#deps);
    this.#stop();
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
    this.#carrier.wake();
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
    if (this.#frames.owesCredit) this.#carrier.wake();
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
    this.#stop();
    void endSession(this.#place, this.#deps);
    this.#go(this.#closeReceived);
  }

  #poll(): PollRequests {
    return new PollRequests(this.#place, this.#deps, {
      frames: this.#frames,
      onLost: code => this.#lose(code),
    });
  }

  /** Opens a WebSocket that takes over from the polls, which go on until it has. */
  async #attempt(open: (question: PollQuestion) => Promise<FrameChannel>): Promise<void> {
    const polls = this.#carrier;
    if (!(polls instanceof PollRequests) || this.#lostCode !== undefined || this.#isGone) return;
    const question = this.#frames.questionAhead();
    const opening = open(question);
    polls.yieldTo(
      opening.then(
        channel => this.#move(channel, question),
        // One that is refused here may have taken over there all the same.
        () => this.#frames.skipTurns(question.turn),
      ),
    );
    await opening;
  }

  #move(channel: FrameChannel, question: PollQuestion): void {
    this.#frames.skipTurns(question.turn);
    if (this.#lostCode !== undefined || this.#isGone) {
      channel.destroy();
      return;
    }
    this.#carrier.stop();
    // A poll that said more may have been lost.
    this.#frames.toldOnly(question);
    const { clock } = this.#deps;
    const session = {
      frames: this.#frames,
      onEnd: (end: SocketEnd): void => this.#leaveSocket(end),
    };
    this.#carrier = new SessionSocket(channel, session, clock);
    this.#movedAtMs = clock.nowMs();
    this.#events?.moved?.('websocket');
  }

  #leaveSocket(end: SocketEnd): void {
    if (end === 'refused') return this.#lose(1002);
    if (end === 'over') return this.#lose(CLOSE_CODE_LOST);
    const { clock, memory } = this.#deps;
    if (clock.nowMs() - this.#movedAtMs < EARLY_MS) memory.webSocketFailed(this.#place.origin);
    this.#carrier = this.#poll();
    this.#events?.moved?.('poll');
  }

  #stop(): void {
    this.#carrier.stop();
    this.#wayBack?.stop();
  }

  #lose(code: number): void {
    this.#lostCode = code;
    this.#stop();
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
