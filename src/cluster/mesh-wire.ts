import type { Socket } from 'node:net';
import type { CancelTimer, Clock } from '../base/clock.ts';
import {
  encodeMeshFrame,
  MeshFrameDecoder,
  type MeshFrame,
  type MeshMessage,
  type MeshRole,
} from '../protocol/mesh-frames.ts';
import { meshHeadOf, meshKindOf, meshMessage } from '../protocol/mesh-messages.ts';
import { ALIVE, atPing, isSilent } from './liveness.ts';
import { isMeshRefusal, type MeshRefusal } from './mesh-refusals.ts';
import { TurnWriter } from './turn-writer.ts';

/** Why a link that stood ended; the `reason` label of its metric. */
export const WIRE_ENDS = [
  'silent',
  'lost',
  'replaced',
  'removed',
  'wrong-process',
  'closing',
  'broken-frames',
] as const;
export type WireEndReason = (typeof WIRE_ENDS)[number];

export interface WireLimits {
  readonly pingIntervalMs: number;
  readonly silenceMs: number;
  /** Bytes that may wait to be sent; a message beyond it is not taken. */
  readonly linkQueueBytesMax: number;
  /** Questions that may wait for their answer. */
  readonly linkRequestsMax: number;
}

/** Counted in plain fields, for messages are too many for a meter. */
export class WireCounters {
  messagesSent = 0;
  messagesReceived = 0;
  bytesSent = 0;
  bytesReceived = 0;
  /** Messages not taken: the queue was full, or they were too long. */
  refused = 0;
  /** Answers to nothing: late, or to a question that was given up. */
  strayAnswers = 0;
  /** Of a kind that this build does not know. */
  notUnderstood = 0;
}

/** What becomes of a question. */
export type MeshReply =
  | { readonly type: 'answered'; readonly message: MeshMessage }
  /** `down`: no link, or it broke. `full`: not sent. `not-understood`: the peer is older. */
  | { readonly type: 'failed'; readonly why: 'down' | 'full' | 'late' | 'not-understood' };

/** Answers the question it came with. False: the link it came on is over, or its queue is full. */
export type Answer = (message: MeshMessage) => boolean;

export interface WireHandlers {
  /** In the order sent. `answer` is there when the peer wants one. Must not throw. */
  message(message: MeshMessage, answer: Answer | undefined): void;
  /** After a message was not taken because of the queue: there is room again. */
  drained(): void;
  roundTrip(ms: number): void;
  /** Once, and last. `detail`: what the peer said, or what was wrong. */
  ended(reason: WireEndReason, detail: string | undefined): void;
}

interface Question {
  readonly settle: (reply: MeshReply) => void;
  readonly cancel: CancelTimer;
}

const NOT_UNDERSTOOD = meshMessage('not-understood', {});
const CORRELATION_MAX = 0xffff_ffff;
/** How long what is queued behind a `bye` has to leave. */
const BYE_LINGER_MS = 1_000;

/** One authenticated connection of a link: messages both ways in order, questions, liveness. */
export class MeshWire {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #limits: WireLimits;
  readonly #counters: WireCounters;
  readonly #handlers: WireHandlers;
  readonly #writer: TurnWriter;
  readonly #decoder = new MeshFrameDecoder();
  readonly #questions = new Map<number, Question>();
  #lastCorrelation = 0;
  #liveness = ALIVE;
  #hasHeard = true;
  #isFull = false;
  #isOver = false;
  #pingedAtMs: number | undefined;
  #cancelPing: CancelTimer = () => {};
  readonly #onFrame = (frame: MeshFrame): void => this.#frame(frame);

  /** `start` begins to read: `rest` is what came behind the handshake. */
  constructor(
    socket: Socket,
    deps: { readonly clock: Clock; readonly limits: WireLimits; readonly counters: WireCounters },
    handlers: WireHandlers,
  ) {
    this.#socket = socket;
    this.#clock = deps.clock;
    this.#limits = deps.limits;
    this.#counters = deps.counters;
    this.#handlers = handlers;
    this.#writer = new TurnWriter(socket, () => this.#flushed());
  }

  start(rest: Uint8Array): void {
    this.#socket.on('data', chunk => this.#received(chunk));
    this.#socket.on('end', () => this.#end('lost', 'the peer closed the connection'));
    this.#socket.on('error', error => this.#end('lost', error.message));
    this.#socket.on('close', () => this.#end('lost', undefined));
    this.#pingLater();
    if (rest.length > 0) this.#received(rest);
    this.#socket.resume();
  }

  get queuedBytes(): number {
    return this.#writer.queuedBytes;
  }

  /** False: nothing was sent, for the queue is full, the message too long, or the link is over. */
  send(message: MeshMessage): boolean {
    return this.#put(message, 'says', 0);
  }

  ask(message: MeshMessage, timeoutMs: number): Promise<MeshReply> {
    return new Promise(resolve => {
      if (this.#isOver) {
        resolve({ type: 'failed', why: 'down' });
        return;
      }
      const correlation = this.#nextCorrelation();
      const isTaken =
        this.#questions.size < this.#limits.linkRequestsMax &&
        this.#put(message, 'asks', correlation);
      if (!isTaken) {
        resolve({ type: 'failed', why: 'full' });
        return;
      }
      const settle = (reply: MeshReply): void => {
        this.#questions.get(correlation)?.cancel();
        this.#questions.delete(correlation);
        resolve(reply);
      };
      const cancel = this.#clock.after(timeoutMs, () => settle({ type: 'failed', why: 'late' }));
      this.#questions.set(correlation, { settle, cancel });
    });
  }

  /** Says why, sends what is queued, and closes. Safe to call twice. */
  close(reason: WireEndReason): void {
    if (this.#isOver) return;
    this.#put(meshMessage('bye', { reason }), 'says', 0);
    this.#writer.flush();
    this.#end(reason, undefined);
  }

  #put(message: MeshMessage, role: MeshRole, correlation: number): boolean {
    if (this.#isOver) return false;
    const start = encodeMeshFrame(message, role, correlation);
    if (start === undefined) {
      this.#counters.refused += 1;
      return false;
    }
    const bytes = start.length + message.body.length;
    // Pings and goodbyes are few and small, and no good when they are dropped.
    const isOwn = message.kind <= OWN_KINDS_MAX;
    if (!isOwn && this.#writer.queuedBytes + bytes > this.#limits.linkQueueBytesMax) {
      this.#isFull = true;
      this.#counters.refused += 1;
      return false;
    }
    this.#counters.messagesSent += 1;
    this.#counters.bytesSent += bytes;
    this.#writer.write(start, message.body);
    return true;
  }

  #flushed(): void {
    if (!this.#isFull || this.#isOver) return;
    if (this.#writer.queuedBytes > this.#limits.linkQueueBytesMax / 2) return;
    this.#isFull = false;
    this.#handlers.drained();
  }

  #received(bytes: Uint8Array): void {
    if (this.#isOver) return;
    this.#hasHeard = true;
    this.#counters.bytesReceived += bytes.length;
    const fault = this.#decoder.push(bytes, this.#onFrame);
    if (fault !== undefined) {
      this.#put(meshMessage('bye', { reason: fault }), 'says', 0);
      this.#writer.flush();
      this.#end('broken-frames', fault);
    }
  }

  #frame(frame: MeshFrame): void {
    if (this.#isOver) return;
    this.#counters.messagesReceived += 1;
    const { role, correlation } = frame;
    if (role === 'answers') {
      this.#answered(frame);
      return;
    }
    const answer: Answer | undefined =
      role === 'asks' ? message => this.#put(message, 'answers', correlation) : undefined;
    switch (meshKindOf(frame)) {
      case 'ping':
        answer?.(meshMessage('pong', {}));
        return;
      case 'bye':
        this.#saidBye(meshHeadOf('bye', frame)?.reason);
        return;
      case undefined:
        // From a newer build. That is no fault: it finds out that we do not know, and does without.
        this.#counters.notUnderstood += 1;
        answer?.(NOT_UNDERSTOOD);
        return;
      default:
        this.#handlers.message(frame, answer);
    }
  }

  #answered(frame: MeshFrame): void {
    if (frame.correlation === 0 && meshKindOf(frame) === 'pong') {
      if (this.#pingedAtMs !== undefined) {
        this.#handlers.roundTrip(this.#clock.nowMs() - this.#pingedAtMs);
      }
      this.#pingedAtMs = undefined;
      return;
    }
    const question = this.#questions.get(frame.correlation);
    if (question === undefined) this.#counters.strayAnswers += 1;
    else if (meshKindOf(frame) === 'not-understood') {
      question.settle({ type: 'failed', why: 'not-understood' });
    } else question.settle({ type: 'answered', message: frame });
  }

  #saidBye(reason: string | undefined): void {
    const isKnown = WIRE_ENDS.find(end => end === reason);
    this.#end(isKnown ?? 'broken-frames', isKnown === undefined ? describeBye(reason) : 'the peer');
  }

  #pingLater(): void {
    this.#cancelPing = this.#clock.after(this.#limits.pingIntervalMs, () => {
      this.#liveness = atPing(this.#liveness, this.#hasHeard);
      this.#hasHeard = false;
      if (isSilent(this.#liveness, this.#limits)) {
        this.#end('silent', `nothing for ${this.#limits.silenceMs} ms`);
        return;
      }
      this.#pingedAtMs ??= this.#clock.nowMs();
      this.#put(meshMessage('ping', {}), 'asks', 0);
      this.#pingLater();
    });
  }

  #end(reason: WireEndReason, detail: string | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#cancelPing();
    const questions = [...this.#questions.values()];
    for (const { settle } of questions) settle({ type: 'failed', why: 'down' });
    this.#leave(reason);
    this.#handlers.ended(reason, detail);
  }

  /** A peer that is there reads our goodbye; one that is not is cut. */
  #leave(reason: WireEndReason): void {
    if (reason === 'silent' || reason === 'lost') {
      this.#socket.destroy();
      return;
    }
    this.#socket.end();
    this.#socket.once('end', () => this.#socket.destroy());
    const cancel = this.#clock.after(BYE_LINGER_MS, () => this.#socket.destroy());
    this.#socket.once('close', cancel);
  }

  #nextCorrelation(): number {
    do {
      this.#lastCorrelation =
        this.#lastCorrelation === CORRELATION_MAX ? 1 : this.#lastCorrelation + 1;
    } while (this.#questions.has(this.#lastCorrelation));
    return this.#lastCorrelation;
  }
}

/** Kinds up to here are the link's own, and come before any limit. */
const OWN_KINDS_MAX = 15;

function describeBye(reason: string | undefined): MeshRefusal | 'unknown' {
  return reason !== undefined && isMeshRefusal(reason) ? reason : 'unknown';
}
