import type { Coordinator } from './coordinator.ts';
import type { Attempt } from './health.ts';
import type { Lease } from './lease.ts';
import { CLAIMS_IN_FLIGHT_MAX, CLAIMS_WAITING_MAX } from './limits.ts';
import type { ClaimResult, ListenerClaim } from './listener-directory.ts';
import type { ListenerIndex } from './listener-index.ts';
import type { OwnListeners, StepResult } from './own-listeners.ts';
import type { RemoteRows } from './remote-rows.ts';
import { Turnstile } from './turnstile.ts';

export interface ClaimsDeps {
  readonly coordinator: Coordinator;
  readonly lease: Lease;
  readonly own: OwnListeners;
  readonly index: ListenerIndex;
  readonly remote: RemoteRows;
  readonly attempt: Attempt;
  /** The coordinator says that our lease is over. */
  readonly onLeaseLost: () => void;
}

/**
 * How listeners of this node come in and go. The coordinator counts them, in one step for all nodes;
 * while it is away memory does, by what the directory had and what nodes announced since. What was granted
 * then is written when it returns, counted or not: two nodes that could not hear each other may together
 * have granted too many, and these stay until they go by themselves; nobody new comes in before.
 */
export class Claims {
  readonly #coordinator: Coordinator;
  readonly #lease: Lease;
  readonly #own: OwnListeners;
  readonly #index: ListenerIndex;
  readonly #remote: RemoteRows;
  readonly #attempt: Attempt;
  readonly #onLeaseLost: () => void;
  readonly #turnstile = new Turnstile({
    insideMax: CLAIMS_IN_FLIGHT_MAX,
    waitingMax: CLAIMS_WAITING_MAX,
  });
  #flushing: Promise<StepResult> | undefined;

  constructor(deps: ClaimsDeps) {
    this.#coordinator = deps.coordinator;
    this.#lease = deps.lease;
    this.#own = deps.own;
    this.#index = deps.index;
    this.#remote = deps.remote;
    this.#attempt = deps.attempt;
    this.#onLeaseLost = deps.onLeaseLost;
  }

  async claim(claim: ListenerClaim, listenersMax: number): Promise<ClaimResult> {
    if (this.#own.isFull) return { type: 'node-full' };
    const placed = this.#own.begin(claim);
    const { namespace, hybridConnection } = claim;
    if (this.#lease.isHeld && this.#coordinator.isUp && !this.#turnstile.isFull) {
      let { holder } = this.#lease;
      const result = await this.#attempt(() =>
        this.#turnstile.pass(async () => {
          holder = this.#lease.holder;
          // What only we know of has its place too.
          const known = this.#index.of(namespace, hybridConnection);
          const placesMax = Math.max(0, listenersMax - this.#remote.uncounted(known));
          return this.#own.step(() => this.#coordinator.claim(holder, placed, placesMax));
        }),
      );
      if (result === 'quota-reached') {
        this.#own.abandon(claim.key);
        return { type: 'quota-reached' };
      }
      if (result === 'claimed') {
        const isWritten = this.#lease.isHeld && this.#lease.holder.epoch === holder.epoch;
        if (this.#own.grant(claim.key, this.#lease.holder, { isWritten })) {
          return { type: 'claimed', provisional: !isWritten };
        }
        // Released while we asked. The row may have been written after its release.
        this.#own.takeOut(placed);
        await this.#attempt(() => this.flush());
        return { type: 'claimed', provisional: false };
      }
      if (result === 'lease-lost') this.#onLeaseLost();
    }
    if (this.#index.of(namespace, hybridConnection).length >= listenersMax) {
      this.#own.abandon(claim.key);
      return { type: 'quota-reached' };
    }
    this.#own.grant(claim.key, this.#lease.holder, { isWritten: false });
    return { type: 'claimed', provisional: true };
  }

  async release(key: string): Promise<void> {
    this.#own.release(key);
    if ((await this.#attempt(() => this.flush())) === 'lease-lost') this.#onLeaseLost();
  }

  /** Writes what waits. Several callers share one run: what they added meanwhile is part of it. */
  async flush(): Promise<StepResult> {
    if (!this.#lease.isHeld || !this.#coordinator.isUp) return 'done';
    this.#flushing ??= this.#own.flush(this.#lease.holder).finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }
}
