import type { Coordinator, Holder } from './coordinator.ts';
import type { FeedFollower } from './feed-follower.ts';
import type { Lease } from './lease.ts';
import type { OwnListeners } from './own-listeners.ts';

export interface LeaseUpkeepDeps {
  readonly coordinator: Coordinator;
  readonly lease: Lease;
  readonly own: OwnListeners;
  readonly follower: Pick<FeedFollower, 'position' | 'check'>;
  /** Our rows are void, and so is the epoch. */
  readonly onLost: (epoch: string) => void;
  readonly onTaken: (epoch: string) => void;
  /** There is more to do, and a beat should follow this one. */
  readonly onMore: () => void;
  readonly isClosed: () => boolean;
}

/**
 * What a beat does about leases: renews ours or takes a new one, makes the coordinator's rows of ours
 * right, and clears away what others have left.
 */
export class LeaseUpkeep {
  readonly #deps: LeaseUpkeepDeps;
  /** Nodes removed because their lease had run out. */
  expired = 0;

  constructor(deps: LeaseUpkeepDeps) {
    this.#deps = deps;
  }

  /** `id-taken`: another node has our id. Rejects with `CoordinatorError`. */
  async keep(): Promise<'held' | 'id-taken' | 'closed'> {
    const { isClosed, lease, onLost, onTaken, own } = this.#deps;
    if (lease.isHeld) {
      if (await this.#renew()) return 'held';
      onLost(lease.holder.epoch);
    }
    if (isClosed()) return 'closed';
    if (!(await lease.take())) return 'id-taken';
    own.restart(lease.holder);
    onTaken(lease.holder.epoch);
    return 'held';
  }

  /** False: the lease is lost, or rows agree and the digest does not, so that only a new epoch helps. */
  async #renew(): Promise<boolean> {
    const { coordinator, follower, lease, own } = this.#deps;
    const isQuiet = own.quietSince();
    const sentAt = follower.position;
    const renewal = await lease.renew();
    if (renewal.type === 'lease-lost') return false;
    follower.check(renewal, sentAt);
    if (lease.mayRemoveOthers && renewal.late.length > 0) {
      this.expired += await coordinator.removeNodes(renewal.late, 'expired');
    }
    if (renewal.garbage !== undefined) await this.#collect(renewal.garbage);
    const digest = renewal.digests.get(lease.holder.node);
    return this.#repair(isQuiet() && own.differs(digest, lease.recordPart));
  }

  async #repair(isDigestWrong: boolean): Promise<boolean> {
    const { lease, own } = this.#deps;
    if (!isDigestWrong && !own.isSuspect) return true;
    const wrong = await own.repair(lease.holder);
    return wrong !== undefined && (wrong > 0 || !isDigestWrong);
  }

  /** One piece at a time, so that a beat stays short; the next beat goes on. */
  async #collect(garbage: Holder): Promise<void> {
    if (!(await this.#deps.coordinator.collect(garbage))) this.#deps.onMore();
  }
}
