import { JOB_ERRORS, type JobErrorCode } from '../jobs/error-codes.ts';
import type { Cancel, Renewed } from '../jobs/messages.ts';
import { deliverEnd, WRITE_AGAIN_MS } from './deliver-end.ts';
import { ExecutorSession, type ReadyExecutor } from './executor-session.ts';
import { failed, markOf, type Outcome } from './executor/messages.ts';
import type { JournalEntry } from './journal-state.ts';
import { LogMask, openLogMask } from './log-mask.ts';
import { LogUpload } from './log-upload.ts';
import { openSecrets, type OpenedSecrets } from './open-secrets.ts';
import type { Attempt, Standing } from './ports.ts';
import { bootId, isAlive } from './process-identity.ts';
import { killTree } from './process-tree.ts';
import { ProgressReports } from './progress-report.ts';
import { pause } from './retry.ts';
import type { RunFolder } from './run-folder.ts';
import { RunLease } from './run-lease.ts';
import { askStart, giveBack } from './run-start.ts';
import type { RunTools } from './run-tools.ts';
import { SignInError } from './session-hosts/session-host.ts';
import type { WatchEnd } from './watched-executor.ts';

/** How an attempt is done with: an outcome to report, or nothing that anybody wants to hear. */
type Conclusion = Outcome | 'given-back' | 'dropped';

/**
 * One attempt from its place in the journal to its end:
 *
 *     ACCEPTED ── start granted ──▶ GRANTED ── executor there ──▶ LAUNCHED ── it ended ──▶ RESULT ──▶ over
 *
 * Each arrow is on disk before what it allows is done. What fails before LAUNCHED is given back, or has a
 * result without a launch; nothing is launched that was in GRANTED when the service began.
 */
export class ActiveRun {
  readonly #entry: JournalEntry;
  readonly #about: Attempt;
  readonly #folder: RunFolder;
  readonly #tools: RunTools;
  readonly #lease: RunLease;
  readonly #upload: LogUpload;
  readonly #progress: ProgressReports;
  /** Of the password, from the sign-in on. */
  #mask: LogMask | undefined;
  /** The service ends and nothing else does; or all is over. */
  readonly #closing = new AbortController();
  /** The attempt is to end before it was launched. */
  readonly #withdrawn = new AbortController();
  #cancel: { readonly mode: Cancel['mode']; readonly graceSeconds: number } | undefined;
  #isDropped = false;
  #session: ExecutorSession | undefined;
  #holdsSlot: boolean;
  /** Over, or let go of because the service ends. Never rejects. */
  readonly done: Promise<void>;

  constructor(entry: JournalEntry, folder: RunFolder, tools: RunTools) {
    this.#entry = entry;
    const { runId, attempt, fence } = entry;
    this.#about = { runId, attempt, fence };
    this.#folder = folder;
    this.#tools = tools;
    this.#holdsSlot = entry.state !== 'RESULT';
    const { clock, log, reporter, askStandings } = tools;
    const observer = {
      onCancel: (cancel: NonNullable<Renewed['cancel']>) => this.cancel(cancel),
      onLost: () => this.drop(),
    };
    this.#lease = new RunLease(entry, { reporter, clock, log, observer, askStandings });
    this.#upload = new LogUpload(entry, {
      path: folder.logPath,
      chunkBytes: folder.offer.limits.chunkBytes,
      reporter,
      clock,
      log,
      signal: this.#closing.signal,
      openMask: async () => this.#mask ?? openLogMask(folder.offer, tools.opener, log),
    });
    this.#progress = new ProgressReports(entry, reporter, clock);
    this.done = this.#live();
  }

  get about(): Attempt {
    return this.#about;
  }

  get mode(): JournalEntry['mode'] {
    return this.#entry.mode;
  }

  /** Until it is known how it ended. */
  get holdsSlot(): boolean {
    return this.#holdsSlot;
  }

  /** Safe to call at any time, any number of times; a weaker wish than one before changes nothing. */
  cancel({ mode, graceSeconds }: Pick<Cancel, 'mode' | 'graceSeconds'>): void {
    const isStronger = this.#cancel === undefined || STRENGTH[mode] > STRENGTH[this.#cancel.mode];
    if (!isStronger) return;
    this.#cancel = { mode, graceSeconds };
    this.#withdrawn.abort();
    this.#session?.ask(mode, graceSeconds);
  }

  /** Nobody wants it any more: it stops at once, and nothing of it is reported. */
  drop(): void {
    this.#isDropped = true;
    this.cancel({ mode: 'kill', graceSeconds: 0 });
  }

  told(standing: Standing): void {
    this.#lease.told(standing);
  }

  /** Lets go of it. What runs goes on. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#withdrawn.abort();
    this.#lease.end();
    this.#progress.end();
    await this.#session?.close();
  }

  async #live(): Promise<void> {
    try {
      const conclusion = await this.#conclude();
      this.#holdsSlot = false;
      this.#session?.release();
      if (this.#isClosing) return;
      this.#tools.log.info({ ...this.#about, how: nameOf(conclusion) }, 'run ended');
      if (typeof conclusion === 'object') await this.#deliver(conclusion);
      if (this.#isClosing) return;
      await this.#over();
    } catch (error) {
      this.#tools.log.error({ ...this.#about, err: error }, 'run broke down');
    } finally {
      this.#holdsSlot = false;
      this.#lease.end();
      this.#progress.end();
      this.#closing.abort();
      void this.#upload.done.then(() => this.#mask?.wipe());
      await this.#session?.close();
    }
  }

  get #isClosing(): boolean {
    return this.#closing.signal.aborted;
  }

  async #conclude(): Promise<Conclusion> {
    switch (this.#entry.state) {
      case 'ACCEPTED':
        return this.#start();
      case 'GRANTED':
        // The process of the service that had the permission is not this one.
        return this.#giveBack();
      case 'LAUNCHED':
        return this.#takeUp();
      default:
        return (
          (await this.#folder.readEnd()) ??
          (await this.#folder.readOutcome()) ??
          lost('What the run had ended with could not be read')
        );
    }
  }

  async #start(): Promise<Conclusion> {
    const granted = await askStart(this.#about, this.#tools, this.#closing.signal);
    if (granted === undefined) return this.#giveBack();
    if (!(await this.#tools.journal.tryWrite({ type: 'GRANTED', ...this.#about })))
      return this.#giveBack();
    if (granted.cancel !== null) this.cancel(granted.cancel);
    const held = await this.#lease.first(this.#closing.signal);
    if (held === 'lost') return 'dropped';
    if (held === 'late') return this.#giveBack();
    if (this.#cancel !== undefined) return this.#ofCancelled();
    this.#lease.keep();
    const opened = await this.#openSecrets();
    if ('outcome' in opened) return opened.outcome;
    const { credential } = opened;
    this.#mask = new LogMask(credential === undefined ? [] : [credential.password]);
    try {
      return await this.#launch(opened);
    } finally {
      opened[Symbol.dispose]();
    }
  }

  async #launch(opened: OpenedSecrets): Promise<Conclusion> {
    const { offer } = this.#folder;
    const { host, journal, log } = this.#tools;
    const { connection } = offer;
    if (connection !== undefined && connection.version > journal.versionOf(connection.id)) {
      const { id: connectionId, version } = connection;
      const isWritten = await this.#tools.journal.tryWrite({
        type: 'VERSION',
        connectionId,
        version,
      });
      if (!isWritten) return this.#giveBack();
    }
    const problem = host.check({
      mode: offer.mode,
      account: opened.account,
      hasCredential: opened.credential !== undefined,
      reuseSession: offer.options.reuseSession,
    });
    if (problem !== undefined) return this.#refusedLate(problem.code, problem.message);
    let ready: ReadyExecutor | undefined;
    try {
      this.#session = await this.#openSession();
      ready = await this.#session.launch(opened, this.#withdrawn.signal);
    } catch (error) {
      if (error instanceof SignInError) return failed(error.code, error.message);
      // The disk is full, as a rule, or there is no room for a socket: nothing was started.
      log.error({ ...this.#about, err: error }, 'the executor could not be started');
      return this.#giveBack();
    }
    if (ready === undefined) return this.#isClosing ? this.#giveBack() : this.#ofCancelled();
    const { identity: executor, launcher, accountName } = ready;
    const atMs = this.#tools.clock.wallMs();
    const isWritten = await this.#tools.journal.tryWrite({
      type: 'LAUNCHED',
      ...this.#about,
      executor,
      ...(launcher === undefined ? {} : { launcher }),
      accountName,
      atMs,
    });
    // Taken up by the next process of the service, which tells it to go.
    if (isWritten && this.#isClosing) return 'dropped';
    if (!isWritten) {
      // Never told to go, it ends by itself; but why wait.
      await killTree({ pids: [executor.pid], variable: markOf(this.#about) }, this.#tools.clock);
      return this.#giveBack();
    }
    log.info({ ...this.#about, pid: executor.pid, accountName }, 'run launched');
    this.#lease.launched();
    return this.#watch(this.#session, ready, atMs, opened);
  }

  /** After a restart of the service. */
  async #takeUp(): Promise<Conclusion> {
    const { launched } = this.#entry;
    if (launched === undefined) return lost('The journal does not say what was launched');
    const { executor, launcher, accountName, atMs } = launched;
    if (!isAlive(executor)) {
      const outcome = await this.#folder.readOutcome();
      if (outcome !== undefined) return outcome;
      await killTree({ pids: [], variable: markOf(this.#about) }, this.#tools.clock);
      const hasRestarted = executor.bootId !== bootId();
      return lost(
        hasRestarted
          ? 'The computer was restarted during the run'
          : 'The executor ended while the machine service was away',
      );
    }
    this.#tools.log.info({ ...this.#about, pid: executor.pid }, 'run taken up again');
    this.#session = await this.#openSession();
    this.#lease.keep();
    this.#lease.launched();
    const ready = { identity: executor, launcher, accountName };
    return this.#watch(this.#session, ready, atMs, undefined);
  }

  async #watch(
    session: ExecutorSession,
    ready: ReadyExecutor,
    launchedAtMs: number,
    opened: OpenedSecrets | undefined,
  ): Promise<Conclusion> {
    if (this.#cancel !== undefined) session.ask(this.#cancel.mode, this.#cancel.graceSeconds);
    const closed = new Promise<'closed'>(resolve => {
      this.#closing.signal.addEventListener('abort', () => resolve('closed'), { once: true });
    });
    const end = await Promise.race([
      session.watch(ready, launchedAtMs, opened),
      closed,
      ...(session.sessionEnded === undefined ? [] : [session.sessionEnded]),
    ]);
    if (end === 'closed') return 'dropped';
    if (end !== 'finished') await session.kill(end !== 'unresponsive');
    await this.#progress.flush();
    if (this.#isDropped) return 'dropped';
    const own = await this.#folder.readOutcome();
    if (isWatchEnd(end)) return own ?? this.#withoutOutcome(end);
    // What the job says of its being ended is nothing to what ended it.
    return failed(end, JOB_ERRORS[end].text);
  }

  #withoutOutcome(end: WatchEnd): Outcome {
    if (end === 'finished') {
      return failed('OutputTooLarge', 'What the executor left of the run cannot be read');
    }
    if (this.#cancel !== undefined && this.#cancel.mode !== 'safe-stop') {
      return { status: 'Cancelled' };
    }
    if (end === 'overdue') {
      const code = 'DesktopFlowsActionTimeout';
      return { status: 'TimedOut', error: { code, message: JOB_ERRORS[code].text } };
    }
    const code = end === 'gone' ? 'AgentNotReachable' : 'UnresponsiveAgent';
    return failed(code, JOB_ERRORS[code].text);
  }

  #ofCancelled(): Conclusion {
    return this.#isDropped ? 'dropped' : { status: 'Cancelled' };
  }

  /** The session was free when the offer came, and is not any more: as if it had not been accepted. */
  #refusedLate(code: JobErrorCode, message: string): Conclusion | Promise<Conclusion> {
    return JOB_ERRORS[code].class === 'transient' ? this.#giveBack() : failed(code, message);
  }

  async #giveBack(): Promise<'given-back'> {
    await giveBack(this.#about, this.#tools, this.#closing.signal);
    return 'given-back';
  }

  async #deliver(end: Outcome): Promise<void> {
    const what = { about: this.#about, end, folder: this.#folder, upload: this.#upload };
    await deliverEnd(what, this.#tools, this.#closing.signal);
    this.#lease.end();
    await this.#upload.done;
  }

  async #over(): Promise<void> {
    const atMs = this.#tools.clock.wallMs();
    while (!(await this.#tools.journal.tryWrite({ type: 'OVER', ...this.#about, atMs }))) {
      if (this.#isClosing) return;
      await pause(this.#tools.clock, WRITE_AGAIN_MS, this.#closing.signal);
    }
    await this.#folder.remove();
  }

  #openSession(): Promise<ExecutorSession> {
    return ExecutorSession.open(this.#folder, this.#tools, {
      onLog: () => this.#upload.grown(),
      onProgress: report => this.#progress.put(report),
      openSecrets: async () => {
        const opened = await this.#openSecrets();
        if (!('outcome' in opened)) return opened;
        // It was opened before; whatever has become of it, the run cannot go on.
        this.cancel({ mode: 'kill', graceSeconds: 0 });
        return undefined;
      },
    });
  }

  #openSecrets(): ReturnType<typeof openSecrets> {
    const { offer } = this.#folder;
    const { opener, journal, log } = this.#tools;
    const seen = offer.connection === undefined ? 0 : journal.versionOf(offer.connection.id);
    return openSecrets(offer, opener, seen, log);
  }
}

const STRENGTH: Readonly<Record<Cancel['mode'], number>> = { 'safe-stop': 0, stop: 1, kill: 2 };

const WATCH_ENDS: ReadonlySet<string> = new Set(['finished', 'gone', 'unresponsive', 'overdue']);

function isWatchEnd(end: WatchEnd | JobErrorCode): end is WatchEnd {
  return WATCH_ENDS.has(end);
}

function lost(message: string): Outcome {
  return { status: 'Lost', error: { code: 'AgentNotReachable', message } };
}

function nameOf(conclusion: Conclusion): string {
  return typeof conclusion === 'object' ? conclusion.status : conclusion;
}
