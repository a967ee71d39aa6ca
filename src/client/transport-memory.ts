import type { Clock } from '../base/clock.ts';
import type { Routes } from './routes.ts';

/** How long it is believed that WebSockets do not pass, or that polls are cut. */
const BELIEF_MS = 10 * 60_000;
/** A poll that is cut sooner says nothing about how long polls may be held. */
const CUT_AFTER_MS_MIN = 5_000;
/** Of the time after which a poll was cut, how much the next ones are held. */
const HOLD_SHARE = 0.75;
const HOLD_MS_MIN = 2_000;
const ORIGINS_MAX = 1_000;
/** So many WebSockets in a row that break soon after they were opened are no accident. */
const EARLY_BREAKS_MAX = 3;

interface Belief {
  readonly value: number;
  readonly untilMs: number;
}

const memories = new WeakMap<Clock, TransportMemory>();

/** The one of this program: what one client has found out serves the others. */
export function memoryOf(clock: Clock): TransportMemory {
  const known = memories.get(clock);
  if (known !== undefined) return known;
  const memory = new TransportMemory(clock);
  memories.set(clock, memory);
  return memory;
}

/** Where a URL leads, and by which proxy: what is true of one way need not be true of another. */
export function originOf(url: URL, routes: Routes): string {
  const proxy = routes.proxyFor(url);
  const origin = `${url.protocol}//${url.host}`;
  return proxy === undefined ? origin : `${origin} by ${proxy.host}`;
}

/**
 * What was found out on the way to relays, by origin (of `originOf`): where WebSockets do not pass,
 * and how long polls may be held there. Forgotten after 10 minutes, so that it is found out again.
 */
export class TransportMemory {
  readonly #clock: Clock;
  readonly #blocked = new Map<string, Belief>();
  readonly #earlyBreaks = new Map<string, Belief>();
  readonly #holds = new Map<string, Belief>();
  readonly #watchers = new Map<string, Set<() => void>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether a WebSocket is not worth a try. */
  isBlocked(origin: string): boolean {
    return this.#believed(this.#blocked, origin) !== undefined;
  }

  webSocketFailed(origin: string): void {
    this.#believe(this.#blocked, origin, 0);
  }

  /** Forgets what was held against WebSockets, and tells those who wait for that. */
  webSocketWorked(origin: string): void {
    this.#blocked.delete(origin);
    for (const task of this.#watchers.get(origin) ?? []) task();
  }

  /** A WebSocket broke soon after it was opened. */
  webSocketBroke(origin: string): void {
    const breaks = (this.#believed(this.#earlyBreaks, origin) ?? 0) + 1;
    this.#believe(this.#earlyBreaks, origin, breaks);
    if (breaks >= EARLY_BREAKS_MAX) this.webSocketFailed(origin);
  }

  /** A WebSocket held for a while. */
  webSocketHeld(origin: string): void {
    this.#earlyBreaks.delete(origin);
  }

  /** Calls `task` whenever a WebSocket worked there; returns what ends that. */
  onWebSocket(origin: string, task: () => void): () => void {
    const tasks = this.#watchers.get(origin) ?? new Set();
    this.#watchers.set(origin, tasks.add(task));
    return () => {
      tasks.delete(task);
      if (tasks.size === 0 && this.#watchers.get(origin) === tasks) this.#watchers.delete(origin);
    };
  }

  /** How long a poll may be held, given how long the relay would hold it, in milliseconds. */
  holdMs(origin: string, relayHoldMs: number): number {
    return Math.min(relayHoldMs, this.#believed(this.#holds, origin) ?? relayHoldMs);
  }

  /** A held poll ended after so long without an answer of the relay. True: it had been held too long. */
  pollCut(origin: string, afterMs: number): boolean {
    if (afterMs < CUT_AFTER_MS_MIN) return false;
    this.#believe(this.#holds, origin, Math.max(HOLD_MS_MIN, afterMs * HOLD_SHARE));
    return true;
  }

  #believed(beliefs: Map<string, Belief>, origin: string): number | undefined {
    const belief = beliefs.get(origin);
    return belief !== undefined && belief.untilMs > this.#clock.nowMs() ? belief.value : undefined;
  }

  #believe(beliefs: Map<string, Belief>, origin: string, value: number): void {
    // The one that was learnt longest ago goes first.
    beliefs.delete(origin);
    beliefs.set(origin, { value, untilMs: this.#clock.nowMs() + BELIEF_MS });
    const [oldest] = beliefs.keys();
    if (beliefs.size > ORIGINS_MAX && oldest !== undefined) beliefs.delete(oldest);
  }
}
