import type { CancelTimer, Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { WorkerStatus } from '../transports/status-report.ts';
import type { WorkerProcess } from './fork-worker.ts';
import { afterEnd, isHopeless, NO_RESTARTS, restartWaitMs, type Restarts } from './restarts.ts';
import { rpcClient, type RpcClient } from './rpc.ts';
import { WORKER_SERVICE, type WorkerProcedures, type WorkerSpec } from './worker-protocol.ts';

export interface WorkerPoolDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** 0 to 1. */
  readonly jitter: () => number;
  readonly fork: () => WorkerProcess;
  /** What each worker is, by name; its first start and every further one. */
  readonly specs: ReadonlyMap<string, WorkerSpec>;
  /** Serves what a process may ask of us; what is returned is called when it has ended. */
  readonly serve: (process: WorkerProcess) => () => void;
  /** A worker's process ended, expected or not. */
  readonly onEnd: (name: string) => void;
  /** A worker does not stay up; the rest is of no use either. */
  readonly onHopeless: (message: string) => void;
}

/** How long a worker may take to start: Redis may be slow, and a lease of a predecessor has to run out. */
const START_TIMEOUT_MS = 60_000;
const READINESS_TIMEOUT_MS = 2_000;
const READINESS_INTERVAL_MS = 500;
/** A worker that says nothing for so long hangs, and keeps clients waiting that the system gives to it. */
const SILENCE_MS_MAX = 30_000;

/**
 * One worker.
 *
 *     starting ── started ──▶ running ── ended ──▶ waiting ── due ──▶ starting
 *     starting ── ended ──▶ waiting
 *     starting, running ── drain ──▶ draining ── ended ──▶ ended
 *     waiting ── drain ──▶ ended
 */
export interface Worker {
  readonly name: string;
  readonly state: WorkerStatus['state'];
  readonly process: WorkerProcess | undefined;
  /** Asks its process; only while there is one. */
  readonly rpc: RpcClient<WorkerProcedures> | undefined;
  readonly isReady: boolean;
  /** What it said of itself last. */
  readonly reasons: readonly string[];
  readonly restarts: number;
}

interface Slot extends Worker {
  state: WorkerStatus['state'];
  process: WorkerProcess | undefined;
  rpc: RpcClient<WorkerProcedures> | undefined;
  isReady: boolean;
  reasons: readonly string[];
  readonly spec: WorkerSpec;
  history: Restarts;
  readonly restarts: number;
  startedAtMs: number;
  heardAtMs: number;
  cancelWait: CancelTimer;
  cancelReadiness: CancelTimer;
}

/** Keeps the processes of all workers running. */
export class WorkerPool {
  readonly #deps: WorkerPoolDeps;
  readonly #slots: readonly Slot[];
  readonly #emptied: (() => void)[] = [];
  #isDraining = false;
  #isStopped = false;

  constructor(deps: WorkerPoolDeps) {
    this.#deps = deps;
    this.#slots = [...deps.specs].map(([name, spec]) => newSlot(name, spec));
  }

  get workers(): readonly Worker[] {
    return this.#slots;
  }

  /** Those that take new work. */
  get ready(): readonly Worker[] {
    return this.#slots.filter(({ isReady }) => isReady);
  }

  /** Starts all, and resolves when all accept. Rejects when one cannot start; then `stop`. */
  async start(): Promise<void> {
    await Promise.all(this.#slots.map(slot => this.#start(slot)));
  }

  /** Drains all, and resolves when none is left. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    for (const slot of this.#slots) {
      slot.cancelWait();
      if (slot.process === undefined) {
        slot.state = 'ended';
        continue;
      }
      slot.state = 'draining';
      slot.rpc?.call('drain', [], READINESS_TIMEOUT_MS).catch((error: unknown) => {
        this.#deps.log.warn({ err: error, worker: slot.name }, 'worker cannot be told to drain');
      });
    }
    await this.#untilEmpty();
  }

  /** Ends all at once. Safe to call twice. */
  stop(): void {
    this.#isStopped = true;
    for (const slot of this.#slots) {
      slot.cancelWait();
      slot.cancelReadiness();
      slot.process?.kill();
    }
  }

  async #start(slot: Slot): Promise<void> {
    const { clock, log, fork, serve } = this.#deps;
    const process = fork();
    const gone = serve(process);
    const rpc = rpcClient<WorkerProcedures>(process.line, WORKER_SERVICE, clock);
    slot.process = process;
    slot.rpc = rpc;
    slot.state = 'starting';
    slot.startedAtMs = clock.nowMs();
    process.onEnd(how => {
      gone();
      this.#ended(slot, how);
    });
    await rpc.call('start', [slot.spec], START_TIMEOUT_MS);
    if (slot.process !== process) return;
    slot.state = this.#isDraining ? 'draining' : 'running';
    slot.startedAtMs = clock.nowMs();
    slot.isReady = !this.#isDraining;
    slot.heardAtMs = slot.startedAtMs;
    log.info({ event: 'WorkerStarted', worker: slot.name, pid: process.pid }, 'worker started');
    this.#askLater(slot, process);
  }

  #ended(slot: Slot, how: string): void {
    const { clock, log, jitter, onEnd, onHopeless } = this.#deps;
    const { pid } = slot.process ?? {};
    slot.cancelReadiness();
    slot.process = undefined;
    slot.rpc = undefined;
    slot.isReady = false;
    slot.reasons = [];
    onEnd(slot.name);
    if (this.#isDraining || this.#isStopped) {
      slot.state = 'ended';
      if (this.#slots.every(({ process }) => process === undefined)) {
        for (const emptied of this.#emptied.splice(0)) emptied();
      }
      return;
    }
    slot.history = afterEnd(slot.history, clock.nowMs() - slot.startedAtMs);
    slot.state = 'waiting';
    if (isHopeless(slot.history)) {
      const times = slot.history.inARow;
      onHopeless(
        `Worker ${slot.name} ended ${times} times in a row (last: ${how}); its log says why`,
      );
      return;
    }
    const waitMs = Math.round(restartWaitMs(slot.history, jitter()));
    log.error({ event: 'WorkerEnded', worker: slot.name, pid, how, waitMs }, 'worker ended');
    slot.cancelWait = clock.after(waitMs, () => {
      this.#start(slot).catch((error: unknown) => {
        log.error({ err: error, worker: slot.name }, 'worker did not start');
        // Whatever it hangs in: its end brings the next try.
        slot.process?.kill();
      });
    });
  }

  #askLater(slot: Slot, process: WorkerProcess): void {
    slot.cancelReadiness = this.#deps.clock.after(READINESS_INTERVAL_MS, () => {
      const asked = slot.rpc?.call('readiness', [], READINESS_TIMEOUT_MS);
      void asked?.then(
        said => this.#heard(slot, process, said),
        () => this.#heard(slot, process, undefined),
      );
    });
  }

  /** `said`: undefined when there was no answer. */
  #heard(
    slot: Slot,
    process: WorkerProcess,
    said: { readonly ready: boolean; readonly reasons: readonly string[] } | undefined,
  ): void {
    if (slot.process !== process) return;
    const nowMs = this.#deps.clock.nowMs();
    slot.isReady = said?.ready === true && slot.state === 'running';
    slot.reasons = said?.reasons ?? [`degraded: ${slot.name} does not answer`];
    if (said !== undefined) slot.heardAtMs = nowMs;
    if (nowMs - slot.heardAtMs < SILENCE_MS_MAX) {
      this.#askLater(slot, process);
      return;
    }
    const silentMs = nowMs - slot.heardAtMs;
    this.#deps.log.error({ worker: slot.name, pid: process.pid, silentMs }, 'worker hangs: killed');
    process.kill();
  }

  async #untilEmpty(): Promise<void> {
    if (this.#slots.every(({ process }) => process === undefined)) return;
    await new Promise<void>(resolve => this.#emptied.push(resolve));
  }
}

function newSlot(name: string, spec: WorkerSpec): Slot {
  return {
    name,
    spec,
    state: 'starting',
    process: undefined,
    rpc: undefined,
    isReady: false,
    reasons: [],
    history: NO_RESTARTS,
    get restarts() {
      return this.history.total;
    },
    startedAtMs: 0,
    heardAtMs: 0,
    cancelWait: () => {},
    cancelReadiness: () => {},
  };
}
