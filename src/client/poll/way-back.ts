import type { CancelTimer } from '../../base/clock.ts';
import { formatPollQuery, type PollQuestion } from '../../protocol/poll-session.ts';
import type { Dial, FrameChannel } from '../frame-channel.ts';
import { withQuery, type SessionDeps, type SessionPlace } from './poll-requests.ts';

/** How often a session looks whether WebSockets pass by now. */
const LOOK_EVERY_MS = 10 * 60_000;
/** Of that, up to so much less by chance: many sessions of one network do not look all at once. */
const LOOK_JITTER = 0.2;
/** After a look that failed, others' successes are no reason to look again so soon. */
const LOOK_PAUSE_MS = 60_000;
const OPENING_TIMEOUT_MS = 10_000;
/** How long the relay may take to answer a ping on a WebSocket that ends there. */
export const FIRST_PONG_TIMEOUT_MS = 5_000;

/** Looks from time to time, and when somebody else got through, whether a session can go on over a WebSocket. */
export class WayBack {
  readonly #place: SessionPlace;
  readonly #deps: SessionDeps;
  readonly #dial: Dial;
  readonly #attempt: (open: (question: PollQuestion) => Promise<FrameChannel>) => Promise<void>;
  readonly #stopped = new AbortController();
  readonly #stopWatching: () => void;
  #cancelLook: CancelTimer | undefined;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #isLooking = false;

  /** `attempt` is given what opens a WebSocket for the session, and rejects as that does. */
  constructor(
    place: SessionPlace,
    deps: SessionDeps,
    by: {
      readonly dial: Dial;
      readonly attempt: (open: (question: PollQuestion) => Promise<FrameChannel>) => Promise<void>;
    },
  ) {
    this.#place = place;
    this.#deps = deps;
    this.#dial = by.dial;
    this.#attempt = by.attempt;
    this.#stopWatching = deps.memory.onWebSocket(place.origin, () => {
      if (deps.clock.nowMs() - this.#lookedAtMs >= LOOK_PAUSE_MS) void this.#look();
    });
    this.#lookLater();
  }

  stop(): void {
    this.#stopped.abort();
    this.#stopWatching();
    this.#cancelLook?.();
  }

  #lookLater(): void {
    const { clock, chance } = this.#deps;
    const delayMs = LOOK_EVERY_MS * (1 - chance() * LOOK_JITTER);
    this.#cancelLook?.();
    this.#cancelLook = clock.after(delayMs, () => void this.#look());
  }

  async #look(): Promise<void> {
    if (this.#isLooking || this.#stopped.signal.aborted) return;
    this.#isLooking = true;
    const { clock, memory } = this.#deps;
    const { url, origin } = this.#place;
    this.#lookedAtMs = clock.nowMs();
    try {
      await this.#attempt(async question => {
        const address = withQuery(url, formatPollQuery(question)).href.replace(/^http/, 'ws');
        const channel = await this.#dial(address, {
          clock,
          timeoutMs: OPENING_TIMEOUT_MS,
          signal: this.#stopped.signal,
          cutsWhenSilent: true,
          firstPongTimeoutMs: FIRST_PONG_TIMEOUT_MS,
        });
        memory.webSocketWorked(origin);
        return channel;
      });
    } catch {
      // The polls go on; there is nothing to report and nobody to report it to.
    }
    this.#isLooking = false;
    if (!this.#stopped.signal.aborted) this.#lookLater();
  }
}
