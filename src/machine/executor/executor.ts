import { chmodSync, fsyncSync, ftruncateSync, mkdtempSync, rmSync, writeSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { cpus, freemem, loadavg, tmpdir, totalmem, userInfo } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import type { Clock } from '../../base/clock.ts';
import { statOf } from '../process-identity.ts';
import { pause } from '../retry.ts';
import { runCommand } from './command-job.ts';
import { Ending } from './ending.ts';
import { readFrames, wipeSecrets, writeJson, type Frame, type Secrets } from './frames.ts';
import { JobLog } from './job-log.ts';
import {
  EXECUTOR_FILES,
  failed,
  IDLE_EXECUTOR_MS,
  RECONNECT_MS,
  toExecutorSchema,
  type FromExecutor,
  type Go,
  type Handover,
  type Outcome,
} from './messages.ts';
import type { RunJob } from './running-job.ts';
import { runScript } from './script-job.ts';

const MEBIBYTE = 1024 * 1024;
const WRITE_AGAIN_MS = 1_000;
/** The log's growth is told so often at most. */
const TELL_LOG_MS = 100;

const RUN_JOB: Readonly<Record<Go['job']['kind'], RunJob>> = {
  command: runCommand,
  simulated: runScript,
  // That it is here is the proof that the account can sign in.
  probe: () => Promise.resolve({ status: 'Succeeded' }),
};

/**
 * One run's executor: a process of its own, under the run's account, which outlives the service. It says
 * hello on the run's socket, begins when it is told to and not before, and leaves the outcome in a file
 * that it was started with. While the service is away it goes on, and looks for it every half second.
 */
export class Executor {
  readonly #handover: Handover;
  readonly #clock: Clock;
  #socket: Socket | undefined;
  /** The sealed inputs, from the frame before `go`. */
  #secrets: Secrets = {};
  #hasBegun = false;
  #ending: Ending | undefined;
  /** What was asked before it began. */
  #askedEarly: { mode: 'safe-stop' | 'stop' | 'kill'; graceSeconds: number } | undefined;
  #lonelySinceMs: number;
  #willTellOfLog = false;
  readonly #isOver = new AbortController();

  constructor(handover: Handover, clock: Clock) {
    this.#handover = handover;
    this.#clock = clock;
    this.#lonelySinceMs = clock.nowMs();
  }

  /** Resolves when the process has nothing left to do. */
  async run(): Promise<void> {
    const { signal } = this.#isOver;
    while (!signal.aborted) {
      await this.#connect();
      // Nobody will tell it to go, and nothing runs: it was forgotten.
      const isLonely = this.#clock.nowMs() - this.#lonelySinceMs > IDLE_EXECUTOR_MS;
      if (!this.#hasBegun && isLonely) return;
      await pause(this.#clock, RECONNECT_MS, signal);
    }
  }

  /** Resolves when the connection is over, or did not come about. */
  #connect(): Promise<void> {
    return new Promise(resolve => {
      const socket = connect(this.#handover.socketPath);
      socket.once('connect', () => {
        this.#socket = socket;
        this.#say(this.#hello());
      });
      // Its end is told by `close`.
      socket.on('error', () => undefined);
      readFrames(socket, frame => this.#take(frame));
      socket.once('close', () => {
        if (this.#socket === socket) this.#lonelySinceMs = this.#clock.nowMs();
        this.#socket = undefined;
        resolve();
      });
    });
  }

  #hello(): FromExecutor {
    return {
      type: 'hello',
      token: this.#handover.token,
      pid: process.pid,
      startTicks: statOf(process.pid)?.startTicks ?? 0,
      uid: process.geteuid?.() ?? -1,
      accountName: userInfo().username,
      hasBegun: this.#hasBegun,
    };
  }

  #take(frame: Frame): void {
    if (frame.type === 'secrets') {
      if (!this.#hasBegun) this.#secrets = frame.secrets;
      return;
    }
    const parsed = v.safeParse(toExecutorSchema, frame.value);
    if (!parsed.success) return;
    const message = parsed.output;
    if (message.type === 'ping') this.#say({ type: 'pong' });
    else if (message.type === 'end') {
      if (this.#ending === undefined) this.#askedEarly = message;
      else this.#ending.ask(message.mode, message.graceSeconds);
    } else if (!this.#hasBegun) {
      this.#hasBegun = true;
      void this.#carryOut(message);
    }
  }

  async #carryOut(go: Go): Promise<void> {
    const { stats } = systemLoad();
    const ending = new Ending(this.#clock, go.limits.runSeconds);
    this.#ending = ending;
    if (this.#askedEarly !== undefined) {
      ending.ask(this.#askedEarly.mode, this.#askedEarly.graceSeconds);
    }
    const outcome = await this.#outcomeOf(go, ending);
    ending.close();
    wipeSecrets(this.#secrets);
    await this.#write({ ...outcome, stats });
    this.#say({ type: 'finished' });
    this.#socket?.end();
    this.#isOver.abort();
  }

  async #outcomeOf(go: Go, ending: Ending): Promise<Outcome> {
    let folder: string | undefined;
    try {
      folder = mkdtempSync(join(tmpdir(), 'halfway-run-'));
      chmodSync(folder, 0o700);
      const surroundings = {
        go,
        secrets: this.#secrets,
        folder,
        log: new JobLog(EXECUTOR_FILES.log, go.limits.logBytes, this.#clock, () =>
          this.#tellOfLog(),
        ),
        ending,
        clock: this.#clock,
        onProgress: (report: Extract<FromExecutor, { type: 'progress' }>['report']) =>
          this.#say({ type: 'progress', report }),
      };
      return await RUN_JOB[go.job.kind](surroundings);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return failed('WcfServerCrash', `The executor cannot run the job: ${why}`);
    } finally {
      if (folder !== undefined) removeFolder(folder);
    }
  }

  /** Until the disk takes it: without it the run would count as lost. */
  async #write(outcome: Outcome): Promise<void> {
    const bytes = Buffer.from(`${JSON.stringify(outcome)}\n`);
    for (;;) {
      try {
        ftruncateSync(EXECUTOR_FILES.outcome);
        let at = 0;
        while (at < bytes.length) {
          at += writeSync(EXECUTOR_FILES.outcome, bytes, at, bytes.length - at, at);
        }
        fsyncSync(EXECUTOR_FILES.outcome);
        return;
      } catch {
        await pause(this.#clock, WRITE_AGAIN_MS, this.#isOver.signal);
      }
    }
  }

  #tellOfLog(): void {
    if (this.#willTellOfLog) return;
    this.#willTellOfLog = true;
    this.#clock.after(TELL_LOG_MS, () => {
      this.#willTellOfLog = false;
      this.#say({ type: 'log' });
    });
  }

  #say(message: FromExecutor): void {
    if (this.#socket !== undefined) writeJson(this.#socket, message);
  }
}

/** Of the computer, when the job begins. */
function systemLoad(): { readonly stats: NonNullable<Outcome['stats']> } {
  const [load = 0] = loadavg();
  // What waits for a processor counts too; more than all of them is all of them.
  const cpuPercent = Math.min(100, Math.round((load / Math.max(1, cpus().length)) * 1_000) / 10);
  const memoryMb = Math.round((totalmem() - freemem()) / MEBIBYTE);
  return { stats: { cpuPercent, memoryMb } };
}

function removeFolder(folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true });
  } catch {
    // Something in it was made unremovable on purpose; temporary folders are swept by the system.
  }
}
