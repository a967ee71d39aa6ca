import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { NamespaceTable } from '../relay/namespaces.ts';
import { formatKey, keyOf, type RecordKey, type RelayRecord } from '../store/records.ts';
import {
  StoreError,
  type Change,
  type Position,
  type RelayStore,
  type StoredRecord,
  type WriteOutcome,
} from '../store/relay-store.ts';

/** What to do with a record, given what is known of it; `refused` goes back to the caller as it is. */
export type Decision<Refused> =
  | { readonly put: RelayRecord }
  | { readonly delete: true }
  | { readonly refused: Refused };

export interface RunTimeConfigurationDeps {
  readonly store: RelayStore;
  readonly namespaces: NamespaceTable;
  readonly clock: Clock;
  readonly log: Logger;
  readonly reportBug: (bug: unknown) => void;
}

/** Longest single wait for a change of another process; after it the store is asked whether it is still the same. */
const FEED_WAIT_MS = 10_000;
const RETRY_DELAY_MS_MIN = 100;
const RETRY_DELAY_MS_MAX = 2_000;
/** How often a write is decided anew because somebody else was faster. */
const ATTEMPTS_MAX = 5;
/** How long a write waits until this node serves what it wrote. It is written all the same. */
const APPLY_TIMEOUT_MS = 5_000;

/**
 * Keeps the namespaces as the store says: applies every change of every node in its order, and writes changes of
 * this one. One writer to the table, the feed: what the store took is what is served.
 */
export class RunTimeConfiguration {
  readonly #deps: RunTimeConfigurationDeps;
  readonly #records = new Map<string, StoredRecord>();
  readonly #waiting = new Set<() => void>();
  #position: Position | undefined;
  #fault: string | undefined;
  #isStopped = false;
  #wake: () => void = () => {};
  readonly #feedWaitMs: number;

  constructor(deps: RunTimeConfigurationDeps) {
    this.#deps = deps;
    this.#feedWaitMs = deps.store.isShared ? FEED_WAIT_MS : Number.POSITIVE_INFINITY;
  }

  /**
   * Applies what is stored and goes on following. Rejects with `StoreError` when it cannot be read; but a store that
   * is shared may be away for a while, and the node serves what its file defines until it comes.
   */
  async start(): Promise<void> {
    try {
      await this.#takeSnapshot();
    } catch (error) {
      if (!(error instanceof StoreError) || !this.#deps.store.isShared) throw error;
      this.#deps.log.warn(
        { err: error },
        'configuration store is away: serving what the file defines',
      );
      this.#fault = error.message;
    }
    this.#follow().catch(this.#deps.reportBug);
  }

  /** Why changes of other nodes are not seen at the moment; undefined while all is well. */
  get fault(): string | undefined {
    return this.#fault;
  }

  /** Whether what is written outlives the process. */
  get isDurable(): boolean {
    return this.#deps.store.isDurable;
  }

  recordAt(key: RecordKey): RelayRecord | undefined {
    return this.#records.get(formatKey(key))?.record;
  }

  /**
   * Decides upon a record and writes the decision, again when another writer was faster, and resolves when this node
   * serves it. Rejects with `StoreError`.
   */
  async write<Refused>(
    key: RecordKey,
    hybridConnectionsMax: number,
    decide: (current: RelayRecord | undefined) => Decision<Refused>,
  ): Promise<{ readonly refused: Refused } | 'written' | 'full' | 'contended'> {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const known = this.#records.get(formatKey(key));
      const decision = decide(known?.record);
      if ('refused' in decision) return decision;
      const expectedVersion = known?.version ?? 0;
      const outcome: WriteOutcome =
        'put' in decision
          ? await this.#deps.store.put(decision.put, { expectedVersion, hybridConnectionsMax })
          : await this.#deps.store.delete(key, expectedVersion);
      if (outcome.type === 'full') return 'full';
      if (outcome.type === 'written') {
        await this.#until(() => this.#hasReached(outcome.position));
        return 'written';
      }
      await this.#until(() => this.#records.get(formatKey(key))?.version !== known?.version);
    }
    return 'contended';
  }

  /** Closes the store, too. Safe to call twice. */
  stop(): void {
    this.#isStopped = true;
    this.#deps.store.close();
    this.#wake();
  }

  #hasReached({ incarnation, number }: Position): boolean {
    const position = this.#position;
    return position?.incarnation !== incarnation || position.number >= number;
  }

  /** Resolves when it is so, or has not become so for too long. */
  async #until(isSo: () => boolean): Promise<void> {
    if (isSo()) return;
    await new Promise<void>(resolve => {
      const done = (): void => {
        this.#waiting.delete(look);
        cancel();
        resolve();
      };
      const look = (): void => {
        if (isSo()) done();
      };
      const cancel = this.#deps.clock.after(APPLY_TIMEOUT_MS, done);
      this.#waiting.add(look);
    });
  }

  async #follow(): Promise<void> {
    let retryDelayMs = RETRY_DELAY_MS_MIN;
    while (!this.#isStopped) {
      try {
        await this.#followOnce();
        if (this.#fault !== undefined) this.#deps.log.info({}, 'configuration store is back');
        this.#fault = undefined;
        retryDelayMs = RETRY_DELAY_MS_MIN;
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        if (this.#isStopped) return;
        if (this.#fault === undefined) {
          this.#deps.log.warn({ err: error }, 'configuration store is away: what is known stays');
        }
        this.#fault = error.message;
        await this.#sleep(retryDelayMs);
        retryDelayMs = Math.min(RETRY_DELAY_MS_MAX, retryDelayMs * 2);
      }
    }
  }

  async #followOnce(): Promise<void> {
    const position = this.#position;
    const changes =
      position === undefined
        ? 'position-lost'
        : await this.#deps.store.changesAfter(position, this.#feedWaitMs);
    if (this.#isStopped) return;
    if (changes === 'position-lost') await this.#takeSnapshot();
    else for (const change of changes) this.#applyChange(change);
    for (const look of this.#waiting) look();
  }

  async #sleep(ms: number): Promise<void> {
    await new Promise<void>(resolve => {
      const cancel = this.#deps.clock.after(ms, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }

  async #takeSnapshot(): Promise<void> {
    const { store, log } = this.#deps;
    let snapshot = await store.snapshot();
    if (snapshot.position === undefined) {
      // Nothing yet, or a Redis that came back without its memory: what we know is the best there is.
      const known = [...this.#records.values()].map(({ record }) => record);
      const isRestored = await store.restore(known);
      if (isRestored && known.length > 0) {
        log.warn({ records: known.length }, 'configuration store had lost its records: restored');
      }
      snapshot = await store.snapshot();
    }
    const stored = new Map(snapshot.records.map(one => [formatKey(keyOf(one.record)), one]));
    for (const key of snapshot.unreadable) {
      log.warn({ resource: key }, 'stored record cannot be read: written by a newer version?');
      const known = this.#records.get(key);
      if (known !== undefined) stored.set(key, known);
    }
    for (const [key, known] of this.#records) {
      const next = stored.get(key);
      if (next === undefined || isAnother(known.record, next.record)) this.#remove(known.record);
    }
    this.#records.clear();
    for (const [key, one] of stored) {
      this.#records.set(key, one);
      this.#serve(one.record);
    }
    this.#position = snapshot.position;
  }

  #applyChange({ key, stored, position }: Change): void {
    const name = formatKey(key);
    const known = this.#records.get(name);
    if (stored === 'unreadable') {
      this.#deps.log.warn({ resource: name }, 'changed record cannot be read: the old one stays');
    } else if (stored === 'deleted') {
      this.#records.delete(name);
      if (known !== undefined) this.#remove(known.record);
    } else {
      this.#records.set(name, stored);
      this.#serve(stored.record);
    }
    this.#position = position;
    this.#deps.log.debug({ resource: name, change: position.number }, 'configuration applied');
  }

  #serve(record: RelayRecord): void {
    const { log, namespaces } = this.#deps;
    const namespace = namespaces.named(record.namespace);
    const resource = formatKey(keyOf(record));
    if (namespace === undefined) {
      log.warn({ resource }, 'stored record is not served: the config file has no such namespace');
      return;
    }
    const { hybridConnection, rules } = record;
    if (hybridConnection === undefined) {
      for (const { name } of namespace.setRules(rules)) {
        log.warn({ resource, rule: name }, 'stored rule does not count: the config file has one');
      }
      return;
    }
    const { name, requiresClientAuthorization, userMetadata, replacesListener } = hybridConnection;
    const { createdAtMs, updatedAtMs } = hybridConnection;
    const isServed = namespace.put({
      name,
      requiresClientAuthorization,
      userMetadata,
      replacesListener,
      createdAtMs,
      updatedAtMs,
      authorizationRules: rules,
      origin: 'api',
    });
    if (!isServed) {
      log.warn({ resource }, 'stored hybrid connection is not served: the config file has one');
    }
  }

  #remove(record: RelayRecord): void {
    const namespace = this.#deps.namespaces.named(record.namespace);
    if (record.hybridConnection === undefined) namespace?.setRules([]);
    else namespace?.remove(record.hybridConnection.name);
  }
}

/** Whether a record was deleted and made again, rather than changed. */
function isAnother(known: RelayRecord, next: RelayRecord): boolean {
  return known.hybridConnection?.createdAtMs !== next.hybridConnection?.createdAtMs;
}

/** How many hybrid connections the store may hold: those of the config file and the emulator's count, too. */
export function storedMax(namespaces: NamespaceTable, hybridConnectionsMax: number): number {
  const others = namespaces.all
    .flatMap(namespace => [...namespace.hybridConnections])
    .filter(({ origin }) => origin !== 'api');
  return Math.max(0, hybridConnectionsMax - others.length);
}
