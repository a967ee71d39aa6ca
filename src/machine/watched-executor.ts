import type { CancelTimer, Clock } from '../base/clock.ts';
import type { Cancel } from '../jobs/messages.ts';
import type { ExecutorLink } from './executor-link.ts';
import { isAlive, type ProcessIdentity } from './process-identity.ts';
import { killTree, signalProcess } from './process-tree.ts';
import { pause } from './retry.ts';

/** Why an executor is not waited for any longer. */
export type WatchEnd =
  /** It has written the outcome. */
  | 'finished'
  /** The process is not there any more. */
  | 'gone'
  | 'unresponsive'
  /** It was to end the job long ago. */
  | 'overdue';

const ALIVE_EVERY_MS = 1_000;
/** So much later than it should, an executor's job is ended for it. */
const OVERDUE_MS = 5_000;
/** How long an executor has for ending its job, and what signed in for ending the executor. */
const KILL_WAIT_MS = 4_000;
const LOOK_MS = 20;

/** An executor that runs a job, watched from outside: its process, its silence, and whether it obeys. */
export class WatchedExecutor {
  readonly #identity: ProcessIdentity;
  readonly #launcher: ProcessIdentity | undefined;
  readonly #mark: string;
  readonly #link: ExecutorLink;
  readonly #clock: Clock;
  #resolve: (end: WatchEnd) => void = () => {};
  #cancelLook: CancelTimer = () => {};
  #cancelOverdue: CancelTimer = () => {};
  readonly #cancelTimeLimit: CancelTimer;
  readonly ended: Promise<WatchEnd>;

  constructor(options: {
    readonly identity: ProcessIdentity;
    readonly launcher: ProcessIdentity | undefined;
    /** `NAME=value` in the environment of the job's processes. */
    readonly mark: string;
    readonly link: ExecutorLink;
    readonly clock: Clock;
    /** Until the run's time is over. */
    readonly leftMs: number;
    readonly graceMs: number;
  }) {
    this.#identity = options.identity;
    this.#launcher = options.launcher;
    this.#mark = options.mark;
    this.#link = options.link;
    this.#clock = options.clock;
    this.ended = new Promise(resolve => {
      this.#resolve = resolve;
    });
    const limitMs = Math.max(0, options.leftMs) + options.graceMs + OVERDUE_MS;
    this.#cancelTimeLimit = this.#clock.after(limitMs, () => this.#resolve('overdue'));
    this.#link.watch();
    this.look();
  }

  /** Whether the process is still there; also done every second. */
  look(): void {
    this.#cancelLook();
    if (!isAlive(this.#identity)) this.#resolve('gone');
    else this.#cancelLook = this.#clock.after(ALIVE_EVERY_MS, () => this.look());
  }

  end(why: 'finished' | 'unresponsive'): void {
    this.#resolve(why);
  }

  /** Asks it to end its job; if it has not in time, it is overdue. */
  ask(mode: Cancel['mode'], graceSeconds: number): void {
    this.#link.end(mode, graceSeconds);
    if (mode === 'safe-stop') return;
    this.#cancelOverdue();
    const graceMs = mode === 'kill' ? 0 : graceSeconds * 1_000;
    this.#cancelOverdue = this.#clock.after(graceMs + OVERDUE_MS, () => this.#resolve('overdue'));
  }

  /**
   * Ends all of it. The executor, which is the same account as the job, is asked first unless it does not
   * answer; what signed in for it ends it when this account may not.
   */
  async kill(doesAnswer: boolean): Promise<void> {
    if (doesAnswer && this.#link.isConnected) {
      this.#link.end('kill', 0);
      await this.#untilGone();
    }
    // What signed in may end an executor of another account, and does so before it ends itself.
    if (isAlive(this.#identity) && this.#launcher !== undefined && isAlive(this.#launcher)) {
      signalProcess(this.#launcher.pid, 'SIGTERM');
      // `su` stops itself together with what it has started.
      signalProcess(this.#launcher.pid, 'SIGCONT');
      await this.#untilGone();
    }
    await killTree({ pids: this.#pids(), variable: this.#mark }, this.#clock);
  }

  /** Watches no longer; nothing is ended. */
  close(): void {
    this.#cancelLook();
    this.#cancelOverdue();
    this.#cancelTimeLimit();
  }

  /** Only numbers that are still these processes'. */
  #pids(): readonly number[] {
    const all = this.#launcher === undefined ? [this.#identity] : [this.#identity, this.#launcher];
    return all.filter(isAlive).map(({ pid }) => pid);
  }

  async #untilGone(): Promise<void> {
    const { signal } = new AbortController();
    const untilMs = this.#clock.nowMs() + KILL_WAIT_MS;
    while (isAlive(this.#identity) && this.#clock.nowMs() < untilMs) {
      await pause(this.#clock, LOOK_MS, signal);
    }
  }
}
