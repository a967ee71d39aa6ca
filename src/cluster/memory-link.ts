import {
  CoordinatorError,
  type Coordinator,
  type CoordinatorCheck,
  type CoordinatorState,
  type FeedEntry,
  type FeedPosition,
  type Holder,
  type PlacedKey,
  type PlacedRow,
  type RenewResult,
  type RowsPage,
  type SeenLease,
  type StoredRecord,
  type TakeResult,
} from './coordinator.ts';
import type { MemoryCoordinator } from './memory-coordinator.ts';

/** One directory's link to a coordinator in this process; it can be cut, as a network can. */
export class MemoryLink implements Coordinator {
  readonly #coordinator: MemoryCoordinator;
  readonly #observers = new Set<(isUp: boolean) => void>();
  /** Steps are taken and their answers lost, as when a line breaks behind the question. */
  losesAnswers = false;
  /** Ends the read that is under way. */
  #endRead: (() => void) | undefined;
  #isReadEnded = false;
  isUp = true;
  commands = 0;
  commandFailures = 0;

  constructor(coordinator: MemoryCoordinator) {
    this.#coordinator = coordinator;
  }

  /** Cuts the link or mends it. */
  setUp(isUp: boolean): void {
    if (this.isUp === isUp) return;
    this.isUp = isUp;
    if (!isUp) this.#endRead?.();
    for (const observer of this.#observers) observer(isUp);
  }

  onUpChange(observer: (isUp: boolean) => void): void {
    this.#observers.add(observer);
  }

  async untilUp(timeoutMs: number): Promise<boolean> {
    if (this.isUp) return true;
    return new Promise(resolve => {
      const done = (): void => {
        this.#observers.delete(done);
        cancel();
        resolve(this.isUp);
      };
      const cancel = this.#coordinator.clock.after(timeoutMs, done);
      this.#observers.add(done);
    });
  }

  async check(): Promise<CoordinatorCheck> {
    return this.#step(() => ({ warnings: [] }));
  }

  async take(
    holder: Holder,
    lease: {
      readonly record: StoredRecord;
      readonly leaseMs: number;
      readonly previousEpoch: string;
    },
  ): Promise<TakeResult> {
    return this.#step(it => it.take(holder, lease));
  }

  async renew(holder: Holder, leaseMs: number): Promise<RenewResult> {
    return this.#step(it => it.renew(holder, leaseMs));
  }

  async describe(holder: Holder, record: StoredRecord): Promise<'written' | 'lease-lost'> {
    return this.#step(it => it.describe(holder, record));
  }

  async leave(holder: Holder): Promise<void> {
    return this.#step(it => it.leave(holder));
  }

  async challenge(node: string): Promise<SeenLease | undefined> {
    return this.#step(it => it.challenge(node));
  }

  async removeNodes(leases: readonly SeenLease[], why: 'expired' | 'expelled'): Promise<number> {
    return this.#step(it => it.removeNodes(leases, why));
  }

  async claim(
    holder: Holder,
    row: PlacedRow,
    listenersMax: number,
  ): Promise<'claimed' | 'quota-reached' | 'lease-lost'> {
    return this.#step(it => it.claim(holder, row, listenersMax));
  }

  async write(holder: Holder, rows: readonly PlacedRow[]): Promise<'written' | 'lease-lost'> {
    return this.#step(it => it.write(holder, rows));
  }

  async release(holder: Holder, rows: readonly PlacedKey[]): Promise<'released' | 'lease-lost'> {
    return this.#step(it => it.release(holder, rows));
  }

  async state(): Promise<CoordinatorState> {
    return this.#step(it => it.state());
  }

  async rows(holder: Holder): Promise<RowsPage> {
    return this.#step(it => it.rows(holder));
  }

  /** Rows go with their epoch at once here, so there is never anything left. */
  async collect(): Promise<boolean> {
    return this.#step(() => true);
  }

  async read(after: FeedPosition, waitMs: number): Promise<readonly FeedEntry[]> {
    this.#isReadEnded = false;
    const ready = await this.#step(it => it.changesAfter(after));
    if (ready.length > 0) return ready;
    await new Promise<void>(resolve => {
      const stop = this.#coordinator.onChange(resolve);
      const cancel = this.#coordinator.clock.after(waitMs, resolve);
      this.#endRead = () => {
        stop();
        cancel();
        resolve();
      };
    });
    this.#endRead?.();
    this.#endRead = undefined;
    if (this.#isReadEnded) throw new CoordinatorError('away', 'The read was ended');
    return this.#step(it => it.changesAfter(after));
  }

  endRead(): void {
    this.#isReadEnded = true;
    this.#endRead?.();
  }

  close(): void {
    this.setUp(false);
  }

  async #step<Result>(take: (coordinator: MemoryCoordinator) => Result): Promise<Result> {
    if (!this.isUp) {
      this.commandFailures += 1;
      throw new CoordinatorError('away', 'The coordinator cannot be reached');
    }
    this.commands += 1;
    const result = take(this.#coordinator);
    if (!this.losesAnswers) return result;
    this.commandFailures += 1;
    throw new CoordinatorError('away', 'The answer of the coordinator was lost');
  }
}
