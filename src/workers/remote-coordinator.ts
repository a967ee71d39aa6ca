import type { Clock } from '../base/clock.ts';
import {
  CoordinatorError,
  type Coordinator,
  type FeedEntry,
  type Holder,
} from '../cluster/coordinator.ts';
import type { MemoryCoordinator } from '../cluster/memory-coordinator.ts';
import type { Line } from './line.ts';
import { rpcClient, RpcError, serveRpc, type RpcClient } from './rpc.ts';

// The coordinator of workers that have no Redis: it lives in their parent, and each of them asks it over its line.

const SERVICE = 'coordinator';

/** How long the parent may take for a step before it counts as away. It has little else to do. */
export const STEP_TIMEOUT_MS = 2_000;

/** The steps that are asked for as they are; `read` can be ended, too. */
type Steps = Pick<
  Coordinator,
  | 'check'
  | 'take'
  | 'renew'
  | 'describe'
  | 'leave'
  | 'challenge'
  | 'removeNodes'
  | 'claim'
  | 'write'
  | 'release'
  | 'state'
  | 'rows'
  | 'collect'
  | 'read'
> & { readonly endRead: () => void };

/**
 * Serves `coordinator` to the worker at the other end. Returns what gives up the lease that it held: to be called when
 * the worker's process is known to be gone, so that nobody has to wait for the lease to run out.
 */
export function serveCoordinator(
  line: Line,
  coordinator: MemoryCoordinator,
  reportBug: (bug: unknown) => void,
): () => void {
  const link = coordinator.link();
  let held: Holder | undefined;
  let reading: Promise<unknown> = Promise.resolve();
  const steps: Steps = {
    check: () => link.check(),
    take: async (holder, lease) => {
      const result = await link.take(holder, lease);
      if (result.type === 'taken') held = holder;
      return result;
    },
    renew: (holder, leaseMs) => link.renew(holder, leaseMs),
    describe: (holder, record) => link.describe(holder, record),
    leave: holder => link.leave(holder),
    challenge: node => link.challenge(node),
    removeNodes: (leases, why) => link.removeNodes(leases, why),
    claim: (holder, row, listenersMax) => link.claim(holder, row, listenersMax),
    write: (holder, rows) => link.write(holder, rows),
    release: (holder, rows) => link.release(holder, rows),
    state: () => link.state(),
    rows: holder => link.rows(holder),
    collect: () => link.collect(),
    read: (after, waitMs) => {
      // One that was ended has still to return before the link takes the next.
      const next = reading.then(() => link.read(after, waitMs));
      reading = next.catch(() => {});
      return next;
    },
    endRead: () => link.endRead(),
  };
  serveRpc(line, SERVICE, steps, reportBug);
  line.onUpChange(isUp => {
    if (!isUp) link.endRead();
  });
  return () => {
    if (held !== undefined) coordinator.leave(held);
  };
}

/** The parent's coordinator, as a worker has it. */
export class RemoteCoordinator implements Coordinator {
  readonly #line: Line;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #rpc: RpcClient<Steps>;
  readonly #observers = new Set<(isUp: boolean) => void>();
  #isClosed = false;
  #abortRead: ((error: CoordinatorError) => void) | undefined;
  commands = 0;
  commandFailures = 0;

  constructor(line: Line, clock: Clock, options: { readonly stepTimeoutMs?: number } = {}) {
    this.#line = line;
    this.#clock = clock;
    this.#timeoutMs = options.stepTimeoutMs ?? STEP_TIMEOUT_MS;
    this.#rpc = rpcClient<Steps>(line, SERVICE, clock);
    line.onUpChange(isUp => {
      if (!this.#isClosed) for (const observer of this.#observers) observer(isUp);
    });
  }

  get isUp(): boolean {
    return this.#line.isUp && !this.#isClosed;
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
      const cancel = this.#clock.after(timeoutMs, done);
      this.#observers.add(done);
    });
  }

  check: Coordinator['check'] = () => this.#ask('check');
  take: Coordinator['take'] = (holder, lease) => this.#ask('take', holder, lease);
  renew: Coordinator['renew'] = (holder, leaseMs) => this.#ask('renew', holder, leaseMs);
  describe: Coordinator['describe'] = (holder, record) => this.#ask('describe', holder, record);
  leave: Coordinator['leave'] = holder => this.#ask('leave', holder);
  challenge: Coordinator['challenge'] = node => this.#ask('challenge', node);
  removeNodes: Coordinator['removeNodes'] = (leases, why) => this.#ask('removeNodes', leases, why);
  claim: Coordinator['claim'] = (holder, row, max) => this.#ask('claim', holder, row, max);
  write: Coordinator['write'] = (holder, rows) => this.#ask('write', holder, rows);
  release: Coordinator['release'] = (holder, rows) => this.#ask('release', holder, rows);
  state: Coordinator['state'] = () => this.#ask('state');
  rows: Coordinator['rows'] = (holder, from) => this.#ask('rows', holder, from);
  collect: Coordinator['collect'] = garbage => this.#ask('collect', garbage);

  async read(...[after, waitMs]: Parameters<Coordinator['read']>): Promise<readonly FeedEntry[]> {
    this.commands += 1;
    const ended = new Promise<never>((_resolve, reject) => {
      this.#abortRead = reject;
    });
    try {
      const answer = this.#rpc.call('read', [after, waitMs], waitMs + this.#timeoutMs);
      return await Promise.race([answer, ended]);
    } catch (error) {
      // The parent may be waiting still.
      this.#tellReadEnd();
      throw this.#failure(error);
    } finally {
      this.#abortRead = undefined;
    }
  }

  endRead(): void {
    this.#abortRead?.(new CoordinatorError('away', 'The read was ended'));
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.endRead();
    for (const observer of this.#observers) observer(false);
  }

  async #ask<Name extends Exclude<keyof Steps, 'read' | 'endRead'>>(
    name: Name,
    ...args: Parameters<Steps[Name]>
  ): Promise<Awaited<ReturnType<Steps[Name]>>> {
    this.commands += 1;
    try {
      if (this.#isClosed) throw new CoordinatorError('away', 'The coordinator was closed');
      return await this.#rpc.call<Name>(name, args, this.#timeoutMs);
    } catch (error) {
      throw this.#failure(error);
    }
  }

  #tellReadEnd(): void {
    this.#rpc.call('endRead', [], this.#timeoutMs).catch(() => {});
  }

  #failure(error: unknown): unknown {
    if (!(error instanceof RpcError) && !(error instanceof CoordinatorError)) return error;
    this.commandFailures += 1;
    if (error instanceof CoordinatorError) return error;
    const kind = error.fault?.kind === 'unusable' ? 'unusable' : 'away';
    return new CoordinatorError(kind, error.message, { cause: error });
  }
}
