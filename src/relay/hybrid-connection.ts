import type { RefusalReason } from '../protocol/refusals.ts';
import type { ListenerFilter } from '../protocol/relayed-headers.ts';
import type { HybridConnectionDescription, SasRule } from '../protocol/resources.ts';
import type { ControlChannel } from './control-channel.ts';
import { DELETED, REPLACED } from './limits.ts';
import type { Randomness, ReachableListener, TrafficCounters } from './ports.ts';
import type { RelayedRequest } from './relayed-request.ts';
import type { Rendezvous } from './rendezvous.ts';

/** Which listeners come into question for a sender. */
export interface ListenerChoice {
  readonly filter?: ListenerFilter;
  /** Those that had their turn. */
  readonly except?: ReadonlySet<ReachableListener>;
}

/**
 * Who defines a hybrid connection or a rule: the config file, whose word stands; the management API; or,
 * of the emulator, the first listener.
 */
export type Origin = 'config-file' | 'api' | 'auto-created';

/** What of a hybrid connection may change while it is served. */
export interface HybridConnectionTerms extends HybridConnectionDescription {
  readonly origin: Origin;
  /** Milliseconds since 1970. */
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  /** It is for one listener: a newer one takes the place of the older at once. */
  readonly replacesListener?: boolean | undefined;
}

const NOT_EXPECTED = Number.NEGATIVE_INFINITY;

/** One named meeting point: its listeners, the choice among them, and its traffic. */
export class HybridConnection {
  readonly name: string;
  readonly namespace: string;
  #terms: HybridConnectionTerms;
  #isDeleted = false;
  readonly traffic: TrafficCounters = new Float64Array(4);
  /** Requests a listener may still answer, by the id it was given. */
  readonly requests = new Map<string, RelayedRequest>();
  /** WebSocket senders whose listener has not dialled yet. */
  readonly waiting = new Set<Rendezvous>();
  /** One for each sender that waits for a listener to come: to be called when one may have. */
  readonly held = new Set<() => void>();
  /** Until when a listener is expected that was here a moment ago; by the clock that never goes back. */
  #expectedUntilMs = NOT_EXPECTED;
  /** One for each joined pair: closes both of its ends with a code. */
  readonly pairs = new Set<(code: number, reason: string) => void>();
  #listeners: readonly ControlChannel[] = [];
  /** Those of them that are not about to leave. */
  #staying: readonly ControlChannel[] = [];
  #elsewhere: readonly ReachableListener[] = [];
  #all: readonly ReachableListener[] = [];

  constructor(namespace: string, terms: HybridConnectionTerms) {
    this.namespace = namespace;
    this.name = terms.name;
    this.#terms = terms;
  }

  get requiresClientAuthorization(): boolean {
    return this.#terms.requiresClientAuthorization;
  }

  get userMetadata(): string {
    return this.#terms.userMetadata;
  }

  /** Read anew at each token check, so that a changed rule or key counts from the next one on. */
  get rules(): readonly SasRule[] {
    return this.#terms.authorizationRules;
  }

  get replacesListener(): boolean {
    return this.#terms.replacesListener === true;
  }

  get origin(): Origin {
    return this.#terms.origin;
  }

  get createdAtMs(): number {
    return this.#terms.createdAtMs;
  }

  get updatedAtMs(): number {
    return this.#terms.updatedAtMs;
  }

  get joinedPairs(): number {
    return this.pairs.size;
  }

  /** From then on nobody comes in, not even those who were admitted before. */
  get isDeleted(): boolean {
    return this.#isDeleted;
  }

  /** Who is connected stays connected; the next token check goes by the new terms. */
  change(terms: HybridConnectionTerms): void {
    this.#terms = terms;
  }

  /**
   * Ends everything that is here: listeners and joined pairs with 1001, waiting senders and requests with
   * 404, answers that have begun are broken. Final.
   */
  delete(): void {
    if (this.#isDeleted) return;
    this.#isDeleted = true;
    // Senders first: an ending listener would have each of them look for another one.
    for (const rendezvous of this.waiting) rendezvous.refuse('endpoint-unknown');
    for (const request of this.requests.values()) request.endpointDeleted();
    for (const close of this.pairs) close(1001, DELETED);
    for (const listener of this.#listeners) listener.end('deleted', 1001, DELETED);
  }

  /** Those on this node. */
  get listeners(): readonly ControlChannel[] {
    return this.#listeners;
  }

  /** All that senders may be put before, on whatever node. */
  get reachable(): readonly ReachableListener[] {
    return this.#all;
  }

  /** A listener that was asked to connect again is expected until then; none any more when one has come. */
  get expectedUntilMs(): number {
    return this.#expectedUntilMs;
  }

  expectListener(untilMs: number): void {
    this.#expectedUntilMs = untilMs;
  }

  add(listener: ControlChannel): void {
    if (this.replacesListener) this.#replaceListeners();
    this.#listeners = [...this.#listeners, listener];
    this.#sort();
    this.#listenerCame();
  }

  remove(listener: ControlChannel): void {
    this.#listeners = this.#listeners.filter(one => one !== listener);
    this.#sort();
  }

  /** One of `listeners` takes nothing new from here on, and ends when its answers are out. */
  leaving(): void {
    this.#sort();
  }

  #replaceListeners(): void {
    for (const listener of this.#staying) listener.end('replaced', 1008, REPLACED);
    this.#sort();
  }

  #sort(): void {
    this.#staying = this.#listeners.filter(({ isLeaving }) => !isLeaving);
    this.#join();
  }

  /** Replaces what is known of listeners on other nodes. */
  setElsewhere(listeners: readonly ReachableListener[]): void {
    const before = this.#elsewhere;
    this.#elsewhere = listeners;
    this.#join();
    if (this.replacesListener && this.#listeners.length > 0) {
      // Whoever becomes known here later than a listener of ours has come later, too, but for what two nodes do in
      // the same few milliseconds: then both listeners end and connect again.
      const isNewer = (one: ReachableListener): boolean => !before.includes(one);
      if (listeners.some(isNewer)) this.#replaceListeners();
    }
    // Of thousands of listeners one comes or goes at a time, and nearly always nobody waits for it.
    if (this.held.size === 0 && this.#expectedUntilMs === NOT_EXPECTED) return;
    const known = new Set(before);
    if (listeners.some(listener => !known.has(listener))) this.#listenerCame();
  }

  #join(): void {
    this.#all = [...this.#staying, ...this.#elsewhere];
  }

  #listenerCame(): void {
    this.#expectedUntilMs = NOT_EXPECTED;
    // Each takes itself out when it has been put before a listener.
    const held = [...this.held];
    for (const look of held) look();
  }

  hasAny(choice: ListenerChoice): boolean {
    return this.#candidates(choice).length > 0;
  }

  /**
   * The listener for the next sender: the less busy of two drawn at random, which is nearly as even
   * as asking everybody and keeps a slow one from piling up. Undefined when none is left.
   */
  choose(random: Randomness, choice: ListenerChoice = {}): ReachableListener | undefined {
    if (this.#isDeleted) return undefined;
    const candidates = this.#candidates(choice);
    const count = candidates.length;
    if (count <= 1) return candidates[0];
    const first = random.below(count);
    const second = (first + 1 + random.below(count - 1)) % count;
    const one = candidates[first];
    const other = candidates[second];
    if (one === undefined || other === undefined) return one ?? other;
    return other.outstanding < one.outstanding ? other : one;
  }

  /** Asks listeners until one takes the offer; a crowded control channel is passed over. */
  offer(
    random: Randomness,
    choice: ListenerChoice,
    put: (listener: ReachableListener) => boolean,
  ): ReachableListener | undefined {
    const first = this.choose(random, choice);
    if (first === undefined || put(first)) return first;
    const except = new Set(choice.except).add(first);
    for (;;) {
      const next = this.choose(random, { ...choice, except });
      if (next === undefined || put(next)) return next;
      except.add(next);
    }
  }

  /**
   * Whether nobody here comes into question: whom the sender wants may just have connected, to this node or to
   * another one, and a moment of waiting helps. One that is here and crowded is a reason to refuse.
   */
  isAbsent({ filter }: ListenerChoice): boolean {
    if (this.#isDeleted) return false;
    return !this.#staying.some(listener => isMet(filter, listener));
  }

  /** Why nobody could be asked: no listener, none that the sender wants, or all of them crowded. */
  whyNobody(choice: ListenerChoice): RefusalReason {
    if (this.#isDeleted) return 'endpoint-unknown';
    if (this.#all.length === 0) return 'no-listener';
    return this.hasAny(choice) ? 'overloaded' : 'no-allowed-listener';
  }

  #candidates({ filter, except }: ListenerChoice): readonly ReachableListener[] {
    const isFiltered = filter?.allowed !== undefined || filter?.disallowed !== undefined;
    if (!isFiltered && (except === undefined || except.size === 0)) return this.#all;
    return this.#all.filter(listener => isMet(filter, listener) && except?.has(listener) !== true);
  }
}

function isMet(filter: ListenerFilter | undefined, listener: ReachableListener): boolean {
  if (filter?.disallowed?.has(listener.listenerId) === true) return false;
  return filter?.allowed === undefined || filter.allowed.has(listener.listenerId);
}
