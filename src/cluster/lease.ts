import { randomBytes } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import type { Coordinator, Holder, RenewResult, StoredRecord } from './coordinator.ts';
import type { DirectoryTimes } from './limits.ts';
import type { MeshVersions, NodeRecord, NodeState } from './listener-directory.ts';
import { formatRecord } from './records.ts';

const RUN_BYTES = 16;
/** How often `takeFirst` looks again at a lease that is still held, in parts of a renewal. */
const LOOKS_PER_RENEWAL = 4;

/**
 * This node's lease, life after life.
 *
 *     none ── take ──▶ held ── renewed ──▶ held
 *     held ── lost: expired and removed, expelled, coordinator empty ──▶ none, with the next epoch
 *
 * An epoch that was tried is tried again until it is taken or the lease lost, since an answer may have
 * been lost on its way.
 */
export class Lease {
  readonly #coordinator: Coordinator;
  readonly #clock: Clock;
  readonly #times: DirectoryTimes;
  readonly #node: string;
  readonly #meshAddress: string;
  readonly #versions: MeshVersions;
  readonly #run = randomBytes(RUN_BYTES).toString('hex');
  #life = 1;
  /** The life that was last held, which we may replace even while its lease lives. */
  #previousLife = 0;
  #state: NodeState = 'active';
  /** What the coordinator has, as far as we know. */
  #written: StoredRecord | undefined;
  #isHeld = false;
  #renewedAtMs = 0;
  /** Since when every beat has reached the coordinator. */
  #steadySinceMs: number | undefined;
  #wasTried = false;
  losses = 0;

  constructor(deps: {
    readonly coordinator: Coordinator;
    readonly clock: Clock;
    readonly times: DirectoryTimes;
    readonly node: string;
    readonly meshAddress: string;
    readonly versions: MeshVersions;
  }) {
    this.#coordinator = deps.coordinator;
    this.#clock = deps.clock;
    this.#times = deps.times;
    this.#node = deps.node;
    this.#meshAddress = deps.meshAddress;
    this.#versions = deps.versions;
  }

  get isHeld(): boolean {
    return this.#isHeld;
  }

  get holder(): Holder {
    return { node: this.#node, epoch: this.#epoch(this.#life) };
  }

  get record(): NodeRecord {
    return {
      ...this.holder,
      meshAddress: this.#meshAddress,
      versions: this.#versions,
      state: this.#state,
    };
  }

  /** Digest part of the record as the coordinator has it. */
  get recordPart(): number {
    return this.#written?.part ?? 0;
  }

  get ageMs(): number | undefined {
    return this.#isHeld ? this.#clock.nowMs() - this.#renewedAtMs : undefined;
  }

  /** Whether others may have taken us for dead: our lease has run out, or is not held. */
  get mayBeOver(): boolean {
    return !this.#isHeld || this.#clock.nowMs() - this.#renewedAtMs > this.#times.leaseMs;
  }

  /**
   * Whether others may be judged by their leases. Not when the coordinator, or we, were away within the
   * last lease: then they could not renew either, and must have the time to.
   */
  get mayRemoveOthers(): boolean {
    return this.#isSteadyFor(this.#times.leaseMs);
  }

  /**
   * Whether others may be judged by how they answer a challenge. Whoever comes back to a coordinator that
   * was away does so within a renewal, for connections are tried again every 2 s at the latest.
   */
  get mayExpelOthers(): boolean {
    return this.#isSteadyFor(this.#times.renewMs);
  }

  setState(state: NodeState): void {
    this.#state = state;
  }

  noteAway(): void {
    this.#steadySinceMs = undefined;
  }

  /** Takes the lease for a start: waits for a dead predecessor's to run out. False: the holder lives. */
  async takeFirst(): Promise<boolean> {
    let seenAt: string | undefined;
    for (;;) {
      const result = await this.#tryTake();
      if (result.type === 'taken') return true;
      const { expiresAt } = result.lease;
      if (seenAt !== undefined && seenAt !== expiresAt) return false;
      seenAt = expiresAt;
      const waitMs = Math.min(result.leftMs + 1, this.#times.renewMs / LOOKS_PER_RENEWAL);
      await new Promise<void>(resolve => {
        this.#clock.after(waitMs, resolve);
      });
    }
  }

  /** False: another epoch holds it. */
  async take(): Promise<boolean> {
    return (await this.#tryTake()).type === 'taken';
  }

  async renew(): Promise<RenewResult> {
    const renewal = await this.#coordinator.renew(this.holder, this.#times.leaseMs);
    if (renewal.type === 'renewed') this.#noteRenewed();
    return renewal;
  }

  /** The lease is not ours any more: from now on the next epoch is ours. */
  lose(): void {
    this.#isHeld = false;
    this.#previousLife = this.#life;
    this.#life += 1;
    this.#written = undefined;
    this.losses += 1;
  }

  /** Brings the coordinator's record up to date, if we hold the lease; a lost one shows at the next renewal. */
  async describe(): Promise<void> {
    const record = formatRecord(this.record);
    if (!this.#isHeld || this.#written?.text === record.text) return;
    const { holder } = this;
    const result = await this.#coordinator.describe(holder, record);
    if (result === 'written' && holder.epoch === this.holder.epoch) this.#written = record;
  }

  async giveUp(): Promise<void> {
    this.#isHeld = false;
    await this.#coordinator.leave(this.holder);
  }

  async #tryTake() {
    const record = formatRecord(this.record);
    const previousEpoch = this.#previousLife === 0 ? '' : this.#epoch(this.#previousLife);
    const isRetry = this.#wasTried && this.#written === undefined;
    this.#wasTried = true;
    const { leaseMs } = this.#times;
    const result = await this.#coordinator.take(this.holder, { record, leaseMs, previousEpoch });
    if (result.type === 'held') return result;
    this.#isHeld = true;
    // An earlier try may have been carried out, with the record of then: have it written again.
    this.#written = isRetry ? { text: '', part: record.part } : record;
    this.#noteRenewed();
    return result;
  }

  #noteRenewed(): void {
    const nowMs = this.#clock.nowMs();
    // We were frozen, or the coordinator was slow: others may have been as well.
    const isLate = nowMs - this.#renewedAtMs > this.#times.leaseMs / 2;
    if (isLate || this.#steadySinceMs === undefined) this.#steadySinceMs = nowMs;
    this.#renewedAtMs = nowMs;
  }

  #isSteadyFor(ms: number): boolean {
    if (!this.#isHeld || this.#steadySinceMs === undefined) return false;
    return this.#clock.nowMs() - this.#steadySinceMs >= ms;
  }

  #epoch(life: number): string {
    return `${this.#run}.${life}`;
  }
}
