import type { ListenerFilter } from '../protocol/relayed-headers.ts';
import type { HybridConnectionDescription, SasRule } from '../protocol/resources.ts';
import type { ControlChannel } from './control-channel.ts';
import type { Randomness, ReachableListener, TrafficCounters } from './ports.ts';
import type { RelayedRequest } from './relayed-request.ts';

/** Which listeners come into question for a sender. */
export interface ListenerChoice {
  readonly filter?: ListenerFilter;
  /** Those that had their turn. */
  readonly except?: ReadonlySet<ReachableListener>;
}

/** One named meeting point: its listeners, the choice among them, and its traffic. */
export class HybridConnection {
  readonly name: string;
  readonly namespace: string;
  readonly requiresClientAuthorization: boolean;
  readonly userMetadata: string;
  readonly rules: readonly SasRule[];
  readonly createdAtMs: number;
  readonly traffic: TrafficCounters = new Float64Array(4);
  /** Requests a listener may still answer, by the id it was given. */
  readonly requests = new Map<string, RelayedRequest>();
  joinedPairs = 0;
  #listeners: readonly ControlChannel[] = [];
  #elsewhere: readonly ReachableListener[] = [];
  #all: readonly ReachableListener[] = [];

  constructor(namespace: string, description: HybridConnectionDescription, createdAtMs: number) {
    this.namespace = namespace;
    this.name = description.name;
    this.requiresClientAuthorization = description.requiresClientAuthorization;
    this.userMetadata = description.userMetadata;
    this.rules = description.authorizationRules;
    this.createdAtMs = createdAtMs;
  }

  /** Those on this node. */
  get listeners(): readonly ControlChannel[] {
    return this.#listeners;
  }

  /** All that senders may be put before, on whatever node. */
  get reachable(): readonly ReachableListener[] {
    return this.#all;
  }

  add(listener: ControlChannel): void {
    this.#listeners = [...this.#listeners, listener];
    this.#join();
  }

  remove(listener: ControlChannel): void {
    this.#listeners = this.#listeners.filter(one => one !== listener);
    this.#join();
  }

  /** Replaces what is known of listeners on other nodes. */
  setElsewhere(listeners: readonly ReachableListener[]): void {
    this.#elsewhere = listeners;
    this.#join();
  }

  #join(): void {
    this.#all = [...this.#listeners, ...this.#elsewhere];
  }

  hasAny(choice: ListenerChoice): boolean {
    return this.#candidates(choice).length > 0;
  }

  /**
   * The listener for the next sender: the less busy of two drawn at random, which is nearly as even
   * as asking everybody and keeps a slow one from piling up. Undefined when none is left.
   */
  choose(random: Randomness, choice: ListenerChoice = {}): ReachableListener | undefined {
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
