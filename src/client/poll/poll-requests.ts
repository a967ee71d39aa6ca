import type { Clock } from '../../base/clock.ts';
import {
  BATCH_HEADER_BYTES,
  POLL_FRAME_HEADER_BYTES,
  POLL_FRAME_PAYLOAD_BYTES_MAX,
} from '../../protocol/poll-frames.ts';
import { formatPollQuery, type PollTerms } from '../../protocol/poll-session.ts';
import { exchange, type HttpAnswer, type NoAnswer } from './poll-exchange.ts';
import { meaningOfPoll, meaningOfPost } from './poll-answers.ts';
import { retryWaitMs } from './retry-wait.ts';
import type { Routes } from '../routes.ts';
import { SESSION_WINDOW_BYTES, type SessionFrames } from './session-frames.ts';
import type { TransportMemory } from '../transport-memory.ts';

/** How much longer than it is held a poll may take until its answer begins. */
const POLL_MARGIN_MS = 10_000;
const POST_TIMEOUT_MS = 30_000;
const DELETE_TIMEOUT_MS = 5_000;
const DELETE_TRIES = 3;
/** How often in a row the shortest posts may be too large for something on the way: it may have meant others. */
const TOO_LARGE_TRIES = 3;
const RETRY = { firstMs: 100, longestMs: 5_000 };
/** An answer without news that comes sooner is not what a held poll is for. */
const IDLE_ANSWER_MS_MIN = 100;
const ANSWER_BYTES_MAX = BATCH_HEADER_BYTES + SESSION_WINDOW_BYTES;
/** One frame of the longest always fits. */
export const POST_BYTES_MIN =
  BATCH_HEADER_BYTES + POLL_FRAME_HEADER_BYTES + POLL_FRAME_PAYLOAD_BYTES_MAX;

export interface SessionPlace {
  /** `…/$poll/{session}`; without a query. */
  readonly url: URL;
  /** Of `originOf`: by which what is learnt of it is remembered. */
  readonly origin: string;
  readonly terms: PollTerms;
}

export interface SessionDeps {
  readonly clock: Clock;
  readonly routes: Routes;
  readonly memory: TransportMemory;
  /** From 0 to 1, for the jitter of retries. */
  readonly chance: () => number;
}

/**
 * Carries a session's frames by HTTP requests: one poll at a time and, independently, one post at a
 * time. Every request that brings no answer of the relay is repeated with the same frames, until the
 * relay must have given the session up.
 */
export class PollRequests {
  readonly #place: SessionPlace;
  readonly #deps: SessionDeps;
  readonly #frames: SessionFrames;
  readonly #onLost: (code: number) => void;
  readonly #stopping = new AbortController();
  #lastAnswerAtMs: number;
  /** Longest body that is posted; shorter for a while where long ones do not arrive. */
  #postBytesMax: number;
  #wakePosting: (() => void) | undefined;
  /** Something is to take over, and this is when it has or has not. */
  #takeover: Promise<unknown> | undefined;

  /** Begins to poll at once. `onLost`: the session is over or cannot go on; called once, unless stopped before. */
  constructor(
    place: SessionPlace,
    deps: SessionDeps,
    session: { readonly frames: SessionFrames; readonly onLost: (code: number) => void },
  ) {
    this.#place = place;
    this.#deps = deps;
    this.#frames = session.frames;
    this.#onLost = session.onLost;
    this.#lastAnswerAtMs = deps.clock.nowMs();
    this.#postBytesMax = place.terms.batchBytesMax;
    void this.#poll();
    void this.#post();
  }

  /** There may be something to send. */
  wake(): void {
    this.#wakePosting?.();
  }

  /** Until `takeover` is settled a poll that was superseded is not followed by another. */
  yieldTo(takeover: Promise<unknown>): void {
    this.#takeover = takeover;
  }

  /** Lets go of everything under way; nothing is called any more. */
  stop(): void {
    this.#stopping.abort();
    this.#wakePosting?.();
  }

  async #poll(): Promise<void> {
    const { clock, memory } = this.#deps;
    const { url, origin, terms } = this.#place;
    let failures = 0;
    let wasSuperseded = false;
    while (!this.#isStopped) {
      // When our own poll is repeated on the way, one copy supersedes the other. One that is not held does not.
      const waitMs = wasSuperseded ? 0 : memory.holdMs(origin, terms.holdMs);
      const question = this.#frames.nextQuestion();
      const startedAtMs = clock.nowMs();
      const newsBefore = this.#frames.news;
      // If this one is lost, the next one says it.
      this.#frames.told(question);
      const answer = await this.#ask({
        method: 'GET',
        url: withQuery(url, formatPollQuery({ ...question, waitMs: Math.round(waitMs) })),
        answerTimeoutMs: waitMs + POLL_MARGIN_MS,
      });
      if (this.#isStopped) return;
      const meaning = meaningOfPoll(answer);
      wasSuperseded = meaning.type === 'superseded';
      if (meaning.type === 'batch') {
        this.#lastAnswerAtMs = clock.nowMs();
        if (!this.#frames.take(meaning.batch)) return this.#lose(1002);
        const isEarly = clock.nowMs() - startedAtMs < Math.min(waitMs, IDLE_ANSWER_MS_MIN);
        // Many such answers in a row would keep both ends busy with nothing.
        failures = isEarly && this.#frames.news === newsBefore ? failures + 1 : 0;
        if (failures > 1) await this.#waitAfter(failures - 1);
        continue;
      }
      if (meaning.type === 'over') return this.#lose(1006);
      if (meaning.type === 'refused') return this.#lose(1002);
      if (wasSuperseded && this.#takeover !== undefined) {
        await this.#takeover;
        this.#takeover = undefined;
        continue;
      }
      if (this.#isTooLate()) return this.#lose(1006);
      const isCut = meaning.type === 'nothing' && this.#wasHeldTooLong(answer, waitMs, startedAtMs);
      failures = isCut ? 0 : failures + 1;
      if (!isCut && !isKeptConnectionClosed(answer, failures)) await this.#waitAfter(failures);
    }
  }

  /** Learns from a poll that something on the way cut, or answered itself, for its length. */
  #wasHeldTooLong(answer: HttpAnswer | NoAnswer, waitMs: number, startedAtMs: number): boolean {
    const { clock, memory } = this.#deps;
    // What nobody cuts, but nobody answers either, was lost some time before we gave up.
    const isGivenUp = 'error' in answer && answer.isTimeout;
    const afterMs = isGivenUp ? (waitMs * 2) / 3 : clock.nowMs() - startedAtMs;
    return memory.pollCut(this.#place.origin, Math.min(afterMs, waitMs));
  }

  async #post(): Promise<void> {
    const { outgoing } = this.#frames;
    let failures = 0;
    let tooLarge = 0;
    while (!this.#isStopped) {
      await this.#somethingToPost();
      // What is sent in the same turn of the event loop travels together.
      await new Promise(resolve => void setImmediate(resolve));
      if (this.#isStopped) return;
      if (!this.#isPostDue) continue;
      const { received: ack, credit } = this.#frames.incoming;
      const { acked } = outgoing;
      const { pieces, isEmpty } = this.#frames.pieces(
        acked + 1,
        this.#postBytesMax - BATCH_HEADER_BYTES,
      );
      const answer = await this.#ask({
        method: 'POST',
        url: this.#place.url,
        headers: { 'Content-Type': 'application/octet-stream' },
        body: pieces,
        answerTimeoutMs: POST_TIMEOUT_MS,
      });
      if (this.#isStopped) return;
      const meaning = meaningOfPost(answer);
      if (meaning.type === 'over') return this.#lose(1006);
      if (meaning.type === 'refused') return this.#lose(1002);
      if (meaning.type === 'progress') {
        this.#lastAnswerAtMs = this.#deps.clock.nowMs();
        this.#frames.told({ ack, credit });
        if (!this.#frames.progress(meaning.progress)) return this.#lose(1002);
        tooLarge = 0;
        this.#postBytesMax = Math.min(this.#postBytesMax * 2, this.#place.terms.batchBytesMax);
      } else if (meaning.type === 'crowded' && meaning.progress !== undefined) {
        if (!this.#frames.progress(meaning.progress)) return this.#lose(1002);
      } else {
        const isShortest = this.#postBytesMax === POST_BYTES_MIN;
        if (meaning.type === 'too-large' && isShortest) tooLarge += 1;
        if (tooLarge === TOO_LARGE_TRIES) return this.#lose(1009);
        this.#postBytesMax = Math.max(POST_BYTES_MIN, Math.ceil(this.#postBytesMax / 2));
      }
      const isForward = meaning.type === 'progress' && (isEmpty || outgoing.acked > acked);
      failures = isForward ? 0 : failures + 1;
      if (failures > 0 && this.#isTooLate()) return this.#lose(1006);
      if (failures > 0 && !isKeptConnectionClosed(answer, failures))
        await this.#waitAfter(failures);
    }
  }

  async #somethingToPost(): Promise<void> {
    while (!this.#isPostDue && !this.#isStopped) {
      await new Promise<void>(resolve => {
        this.#wakePosting = resolve;
      });
    }
  }

  #ask(
    asked: Omit<Parameters<typeof exchange>[1], 'doing' | 'answerBytesMax' | 'signal'>,
  ): Promise<HttpAnswer | NoAnswer> {
    return exchange(this.#deps, {
      doing: `go on with the long-poll session at ${this.#place.url.origin}`,
      answerBytesMax: ANSWER_BYTES_MAX,
      signal: this.#stopping.signal,
      ...asked,
    });
  }

  get #isPostDue(): boolean {
    const { outgoing, owesCredit } = this.#frames;
    return owesCredit || outgoing.has(outgoing.acked + 1);
  }

  #isTooLate(): boolean {
    return this.#deps.clock.nowMs() - this.#lastAnswerAtMs >= this.#place.terms.expiryMs;
  }

  #waitAfter(failures: number): Promise<void> {
    const { clock, chance } = this.#deps;
    const { signal } = this.#stopping;
    return new Promise(resolve => {
      const done = (): void => {
        cancel();
        signal.removeEventListener('abort', done);
        resolve();
      };
      const cancel = clock.after(retryWaitMs(failures, RETRY, chance()), done);
      signal.addEventListener('abort', done, { once: true });
      if (signal.aborted) done();
    });
  }

  get #isStopped(): boolean {
    return this.#stopping.signal.aborted;
  }

  #lose(code: number): void {
    if (this.#isStopped) return;
    this.stop();
    this.#onLost(code);
  }
}

/** Tells the relay that a session is no longer wanted. If that does not arrive, it expires there. */
export async function endSession({ url }: SessionPlace, deps: SessionDeps): Promise<void> {
  for (let failures = 1; failures <= DELETE_TRIES; failures += 1) {
    const answer = await exchange(deps, {
      doing: `end the long-poll session at ${url.origin}`,
      method: 'DELETE',
      url,
      answerTimeoutMs: DELETE_TIMEOUT_MS,
      answerBytesMax: ANSWER_BYTES_MAX,
    });
    if (!('error' in answer) && answer.status < 500) return;
    await new Promise<void>(resolve => {
      deps.clock.after(retryWaitMs(failures, RETRY, deps.chance()), resolve);
    });
  }
}

/** A connection that was kept may be closed just when it is used again; that is worth one try without a wait. */
function isKeptConnectionClosed(answer: HttpAnswer | NoAnswer, failures: number): boolean {
  return failures === 1 && 'error' in answer && answer.isOnKeptConnection;
}

export function withQuery(url: URL, query: string): URL {
  const asked = new URL(url);
  asked.search = query;
  return asked;
}
