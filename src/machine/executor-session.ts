import { statSync } from 'node:fs';
import { join } from 'node:path';
import { CANCEL_GRACE_SECONDS } from '../jobs/limits.ts';
import type { Cancel } from '../jobs/messages.ts';
import { ExecutorLink } from './executor-link.ts';
import { markOf, type FromExecutor, type Go, type ProgressReport } from './executor/messages.ts';
import type { OpenedSecrets } from './open-secrets.ts';
import { identityOf, isAlive, type ProcessIdentity } from './process-identity.ts';
import { signalProcess } from './process-tree.ts';
import { pause } from './retry.ts';
import type { RunFolder } from './run-folder.ts';
import type { RunTools } from './run-tools.ts';
import { SignInError, type LaunchedExecutor } from './session-hosts/session-host.ts';
import { makeSocketFolder } from './socket-folder.ts';
import { WatchedExecutor, type WatchEnd } from './watched-executor.ts';

type ExecutorHello = Extract<FromExecutor, { type: 'hello' }>;

/** Signing in and starting an executor takes a login shell and a program; a computer may be slow. */
const LAUNCH_TIMEOUT_MS = 60_000;

export interface SessionObserver {
  onLog(): void;
  onProgress(report: ProgressReport): void;
  /** The executor is there and was never told to go: it is to be told with these, which are wiped after. */
  openSecrets(): Promise<OpenedSecrets | undefined>;
}

/** An executor that has said hello and waits for its go. */
export interface ReadyExecutor {
  readonly identity: ProcessIdentity;
  readonly launcher: ProcessIdentity | undefined;
  readonly accountName: string;
}

/** One attempt's executor as the service has it: launched or taken up again, told to go, watched, ended. */
export class ExecutorSession {
  readonly #folder: RunFolder;
  readonly #tools: RunTools;
  readonly #observer: SessionObserver;
  readonly #link: ExecutorLink;
  readonly #firstHello: Promise<ExecutorHello>;
  #resolveHello: (hello: ExecutorHello) => void = () => {};
  #launched: LaunchedExecutor | undefined;
  #watched: WatchedExecutor | undefined;
  #asked: { readonly mode: Cancel['mode']; readonly graceSeconds: number } | undefined;
  #isGoing = false;

  private constructor(
    folder: RunFolder,
    tools: RunTools,
    observer: SessionObserver,
    openLink: (session: ExecutorSession) => ExecutorLink,
  ) {
    this.#folder = folder;
    this.#tools = tools;
    this.#observer = observer;
    this.#firstHello = new Promise(resolve => {
      this.#resolveHello = resolve;
    });
    this.#link = openLink(this);
  }

  /** Listens on the run's socket. Rejects when that cannot be. */
  static async open(
    folder: RunFolder,
    tools: RunTools,
    observer: SessionObserver,
  ): Promise<ExecutorSession> {
    const handover = handoverOf(folder, tools);
    const session = new ExecutorSession(
      folder,
      tools,
      observer,
      self =>
        new ExecutorLink(handover, tools.clock, {
          onHello: hello => self.#hello(hello),
          onLog: () => observer.onLog(),
          onProgress: report => observer.onProgress(report),
          onFinished: () => self.#watched?.end('finished'),
          onDisconnected: () => self.#watched?.look(),
          onUnresponsive: () => self.#watched?.end('unresponsive'),
        }),
    );
    const isForOthers = tools.host.kind === 'os-account';
    // Temporary folders are swept, also while a service goes on for months.
    await makeSocketFolder(tools.socketFolder, { isForOthers });
    await session.#link.listen(isForOthers);
    return session;
  }

  /** Starts it and waits for its hello. Rejects with `SignInError`. Undefined: `signal` was aborted before. */
  async launch(opened: OpenedSecrets, signal: AbortSignal): Promise<ReadyExecutor | undefined> {
    const { offer } = this.#folder;
    const { host, clock } = this.#tools;
    const files = await this.#folder.openFiles();
    try {
      this.#launched = await host.launch({
        mode: offer.mode,
        account: opened.account,
        hasCredential: offer.credential !== undefined,
        reuseSession: offer.options.reuseSession,
        credential: opened.credential,
        files: { log: files.log.fd, outcome: files.outcome.fd },
        handover: handoverOf(this.#folder, this.#tools),
      });
    } finally {
      await files.log.close();
      await files.outcome.close();
    }
    const launched = this.#launched;
    const end = new AbortController();
    const either = AbortSignal.any([signal, end.signal]);
    const first = await Promise.race([
      this.#firstHello,
      launched.ended,
      pause(clock, LAUNCH_TIMEOUT_MS, either),
    ]);
    end.abort();
    if (first !== undefined && 'code' in first) throw new SignInError(first);
    if (first !== undefined && !signal.aborted) return this.#verified(first, launched);
    // Whatever signs in is the service's own child, and ends what it started.
    signalProcess(launched.pid, 'SIGTERM');
    if (signal.aborted) return undefined;
    const message = 'The executor did not begin in time';
    throw new SignInError({ code: 'AgentHasNotStarted', message });
  }

  /**
   * Tells the executor to go, if it waits for that, and watches it to its end. `secrets` are those of the
   * launch; of an executor that is taken up again they are opened when it turns out to have none.
   */
  async watch(
    ready: ReadyExecutor,
    launchedAtMs: number,
    secrets: OpenedSecrets | undefined,
  ): Promise<WatchEnd> {
    const { offer } = this.#folder;
    const spentMs = Math.max(0, this.#tools.clock.wallMs() - launchedAtMs);
    this.#watched = new WatchedExecutor({
      identity: ready.identity,
      launcher: ready.launcher,
      mark: markOf(offer),
      link: this.#link,
      clock: this.#tools.clock,
      leftMs: offer.limits.runSeconds * 1_000 - spentMs,
      graceMs: CANCEL_GRACE_SECONDS * 1_000,
    });
    if (secrets !== undefined) await this.#go(secrets);
    this.#isGoing = true;
    if (this.#asked !== undefined) this.ask(this.#asked.mode, this.#asked.graceSeconds);
    return this.#watched.ended;
  }

  /** Of the session that was made for it, where the host can tell. */
  get sessionEnded(): LaunchedExecutor['sessionEnded'] {
    return this.#launched?.sessionEnded;
  }

  ask(mode: Cancel['mode'], graceSeconds: number): void {
    this.#asked = { mode, graceSeconds };
    this.#watched?.ask(mode, graceSeconds);
  }

  async kill(doesAnswer: boolean): Promise<void> {
    await this.#watched?.kill(doesAnswer);
  }

  /** The executor is over: its session too. */
  release(): void {
    this.#launched?.release();
  }

  /** Lets go of it; a living executor goes on. */
  async close(): Promise<void> {
    this.#watched?.close();
    await this.#link.close();
  }

  #hello(hello: ExecutorHello): void {
    this.#resolveHello(hello);
    if (this.#asked !== undefined) this.#watched?.ask(this.#asked.mode, this.#asked.graceSeconds);
    this.#observer.onLog();
    // Its service ended between writing down the launch and telling it to go.
    if (this.#isGoing && !hello.hasBegun) void this.#goAgain();
  }

  async #goAgain(): Promise<void> {
    const secrets = await this.#observer.openSecrets();
    if (secrets !== undefined) await this.#go(secrets);
  }

  async #go(opened: OpenedSecrets): Promise<void> {
    const { runId, attempt, fence, job, inputs, limits, trace } = this.#folder.offer;
    const { runSeconds, logBytes, outputBytes } = limits;
    const go: Go = {
      type: 'go',
      runId,
      attempt,
      fence,
      job,
      inputs,
      limits: { runSeconds, logBytes, outputBytes },
      ...(trace?.traceparent === undefined ? {} : { traceparent: trace.traceparent }),
    };
    try {
      await this.#link.go(go, opened.secrets);
    } finally {
      opened[Symbol.dispose]();
    }
  }

  /** Whether it is who it says, and whom it should be. */
  #verified(hello: ExecutorHello, launched: LaunchedExecutor): ReadyExecutor {
    const identity = identityOf(hello.pid);
    if (identity === undefined || identity.startTicks !== hello.startTicks || !isAlive(identity)) {
      const message = 'The executor is not the process that it says it is';
      throw new SignInError({ code: 'AgentHasNotStarted', message });
    }
    const { uid } = launched;
    if (uid !== undefined && (hello.uid !== uid || statSync(`/proc/${hello.pid}`).uid !== uid)) {
      signalProcess(hello.pid, 'SIGKILL');
      const message = 'The executor does not run under the account that was asked for';
      throw new SignInError({ code: 'SessionCreationError', message });
    }
    return {
      identity,
      launcher: launched.pid === hello.pid ? undefined : identityOf(launched.pid),
      accountName: hello.accountName,
    };
  }
}

function handoverOf({ socketName, token }: RunFolder, { socketFolder }: RunTools) {
  return { socketPath: join(socketFolder, socketName), token };
}
