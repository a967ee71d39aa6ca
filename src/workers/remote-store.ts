import type { Clock } from '../base/clock.ts';
import type { RecordKey, RelayRecord } from '../store/records.ts';
import {
  StoreError,
  type Change,
  type Position,
  type PutGuard,
  type RelayStore,
  type Snapshot,
  type WriteOutcome,
} from '../store/relay-store.ts';
import type { Line } from './line.ts';
import { rpcClient, RpcError, serveRpc, type RpcClient } from './rpc.ts';

// The records of several workers: one store in their parent, which nobody else writes.

const SERVICE = 'store';
const STEP_TIMEOUT_MS = 10_000;
/** Ends a look at the feed that finds nothing. */
const NO_WAIT_MS = 0;

type Steps = Pick<RelayStore, 'snapshot' | 'changesAfter' | 'put' | 'delete' | 'restore'>;

/** One store for several readers: lets each wait for changes, of which the store itself allows only one. */
export class SharedStore {
  readonly store: RelayStore;
  readonly #clock: Clock;
  readonly #waiting = new Set<() => void>();
  #looking: Promise<unknown> = Promise.resolve();
  #writes = 0;

  constructor(store: RelayStore, clock: Clock) {
    this.store = store;
    this.#clock = clock;
  }

  /** Serves it to the worker at the other end. */
  serve(line: Line, reportBug: (bug: unknown) => void): void {
    let stopWaiting: (() => void) | undefined;
    const steps: Steps = {
      snapshot: () => this.store.snapshot(),
      changesAfter: async (position, waitMs) => {
        const writes = this.#writes;
        const found = await this.#look(position);
        if (found === 'position-lost' || found.length > 0) return found;
        // A write while we looked has woken nobody.
        if (writes !== this.#writes) return this.#look(position);
        await new Promise<void>(resolve => {
          stopWaiting = this.#onChange(waitMs, resolve);
        });
        return this.#look(position);
      },
      put: (record, guard) => this.#write(() => this.store.put(record, guard)),
      delete: (key, expectedVersion) => this.#write(() => this.store.delete(key, expectedVersion)),
      restore: records => this.#write(() => this.store.restore(records)),
    };
    serveRpc(line, SERVICE, steps, reportBug);
    line.onUpChange(isUp => {
      if (!isUp) stopWaiting?.();
    });
  }

  close(): void {
    this.store.close();
    this.#changed();
  }

  /** What there is at once; one look at a time. */
  async #look(position: Position): Promise<readonly Change[] | 'position-lost'> {
    const look = this.#looking.then(() => this.store.changesAfter(position, NO_WAIT_MS));
    this.#looking = look.catch(() => {});
    return look;
  }

  async #write<Outcome>(write: () => Promise<Outcome>): Promise<Outcome> {
    const outcome = await write();
    this.#writes += 1;
    this.#changed();
    return outcome;
  }

  #onChange(waitMs: number, react: () => void): () => void {
    const done = (): void => {
      this.#waiting.delete(done);
      cancel();
      react();
    };
    const cancel = this.#clock.after(waitMs, done);
    this.#waiting.add(done);
    return done;
  }

  #changed(): void {
    for (const done of this.#waiting) done();
  }
}

/** What the parent tells a worker of the store when it starts it. */
export type StoreTraits = Pick<RelayStore, 'shown' | 'isDurable'>;

/** The parent's store, as a worker has it. */
export class RemoteStore implements RelayStore {
  readonly shown: string;
  readonly isDurable: boolean;
  readonly isShared = true;
  readonly #rpc: RpcClient<Steps>;
  #endWait: (() => void) | undefined;

  constructor(line: Line, traits: StoreTraits, clock: Clock) {
    this.shown = traits.shown;
    this.isDurable = traits.isDurable;
    this.#rpc = rpcClient<Steps>(line, SERVICE, clock);
  }

  snapshot(): Promise<Snapshot> {
    return this.#ask('snapshot', []);
  }

  async changesAfter(
    position: Position,
    waitMs: number,
  ): Promise<readonly Change[] | 'position-lost'> {
    const closed = new Promise<readonly Change[]>(resolve => {
      this.#endWait = () => resolve([]);
    });
    return Promise.race([this.#ask('changesAfter', [position, waitMs], waitMs), closed]);
  }

  put(record: RelayRecord, guard: PutGuard): Promise<WriteOutcome> {
    return this.#ask('put', [record, guard]);
  }

  delete(key: RecordKey, expectedVersion: number): Promise<WriteOutcome> {
    return this.#ask('delete', [key, expectedVersion]);
  }

  restore(records: readonly RelayRecord[]): Promise<boolean> {
    return this.#ask('restore', [records]);
  }

  close(): void {
    this.#endWait?.();
  }

  async #ask<Name extends keyof Steps>(
    name: Name,
    args: Parameters<Steps[Name]>,
    waitMs = 0,
  ): Promise<Awaited<ReturnType<Steps[Name]>>> {
    try {
      return await this.#rpc.call<Name>(name, args, waitMs + STEP_TIMEOUT_MS);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      throw new StoreError(`Cannot use the store of the parent process: ${error.message}`, {
        cause: error,
      });
    }
  }
}
