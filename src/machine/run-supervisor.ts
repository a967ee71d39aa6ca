import type { Logger } from '../base/logger.ts';
import { JOB_ERRORS, type JobErrorCode } from '../jobs/error-codes.ts';
import type { Cancel, Hello, Offer, OfferAnswer } from '../jobs/messages.ts';
import { ActiveRun } from './active-run.ts';
import type { JournalEntry } from './journal-state.ts';
import { openSecrets } from './open-secrets.ts';
import type { Attempt, JobDoor, RunInHand, Standing } from './ports.ts';
import { isAlive } from './process-identity.ts';
import { RunFolder } from './run-folder.ts';
import type { RunTools } from './run-tools.ts';
import type { SessionFault } from './session-hosts/session-host.ts';
import { isOlderVersion } from './agent-version.ts';

/** After a refusal for want of a slot or session, unless something is freed before. */
const RETRY_AFTER_SECONDS = 20;
/** Refusals that are remembered, so that an offer that is repeated gets the same answer. */
const REFUSALS_MAX = 1_000;

/** All runs of a machine: answers offers, and carries out what it accepted. */
export class RunSupervisor implements JobDoor {
  readonly #tools: RunTools;
  readonly #log: Logger;
  /** The folder with one folder for each attempt. */
  readonly #folder: string;
  readonly #release: () => Promise<void>;
  readonly #runs = new Map<string, ActiveRun>();
  readonly #refusals = new Map<string, OfferAnswer>();
  /** Offers are answered one after another: each counts the slots that those before it took. */
  #lastOffer: Promise<unknown> = Promise.resolve();
  #isDraining = false;
  #isClosed = false;

  /** `release`: called when all was let go of. */
  constructor(tools: RunTools, folder: string, release: () => Promise<void>) {
    this.#tools = tools;
    this.#log = tools.log;
    this.#folder = folder;
    this.#release = release;
  }

  offer(offer: Offer): Promise<OfferAnswer> {
    const answer = this.#lastOffer.then(async () => {
      try {
        return await this.#answer(offer);
      } catch (error) {
        const { runId, attempt, fence } = offer;
        this.#log.error({ runId, fence, err: error }, 'an offer could not be looked at');
        const { code, message } = refusal('UIFlowAgentNotAvailable');
        return { v: 1, type: 'refuse', runId, attempt, fence, code, message } as const;
      }
    });
    this.#lastOffer = answer;
    return answer;
  }

  cancel({ runId, mode, graceSeconds }: Cancel): void {
    for (const run of this.#runs.values()) {
      if (run.about.runId === runId) run.cancel({ mode, graceSeconds });
    }
  }

  journal(): Hello['journal'] {
    return this.#tools.journal
      .entries()
      .map(({ runId, attempt, fence, state }) => ({ runId, attempt, fence, state }));
  }

  sessions(): Hello['sessions'] {
    return this.#tools.host.sessions();
  }

  capacity(): Hello['capacity'] {
    return this.#tools.host.capacity();
  }

  standings(standings: readonly { readonly runId: string; readonly standing: Standing }[]): void {
    for (const { runId, standing } of standings) {
      for (const run of this.#runs.values()) if (run.about.runId === runId) run.told(standing);
    }
  }

  runs(): readonly RunInHand[] {
    return this.#tools.journal
      .entries()
      .map(({ runId, attempt, fence, state, mode, jobRef, atMs }) => ({
        runId,
        attempt,
        fence,
        state,
        mode,
        jobRef,
        acceptedAtMs: atMs,
      }));
  }

  setDraining(isDraining: boolean): void {
    this.#isDraining = isDraining;
  }

  /**
   * A journal that was begun on another computer may be a copy: what began there may go on, and only the lease's end
   * can tell that it does not. So nothing is said of runs that have neither a process nor a result here.
   */
  async recover(): Promise<void> {
    const names = new Set<string>();
    for (const entry of this.#tools.journal.entries()) {
      const known = await RunFolder.load(this.#folder, entry);
      if (known === undefined) {
        this.#log.error(
          { runId: entry.runId, fence: entry.fence },
          'the files of a run are damaged',
        );
      }
      if (this.#tools.isFromElsewhere && !(await isHere(entry, known))) {
        await this.#forget(entry);
        continue;
      }
      const folder = known ?? (await RunFolder.create(this.#folder, unknownOffer(entry)));
      names.add(folder.name);
      this.#begin(entry, folder);
    }
    await RunFolder.sweep(this.#folder, names);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#lastOffer;
    const runs = [...this.#runs.values()];
    await Promise.all(runs.map(run => run.close()));
    await Promise.all(runs.map(run => run.done));
    await this.#release();
  }

  async #answer(offer: Offer): Promise<OfferAnswer> {
    const { runId, attempt, fence } = offer;
    const about = { runId, attempt, fence };
    const { journal } = this.#tools;
    const accept = { v: 1, type: 'accept', ...about } as const;
    if (journal.entry(about)?.attempt === attempt || journal.isOver(about)) return accept;
    const key = keyOf(about);
    const known = this.#refusals.get(key);
    if (known !== undefined) return known;
    const why = await this.#refusalOf(offer);
    if (why === undefined) return accept;
    const { code, message, retryAfterSeconds } = why;
    this.#log.info({ ...about, code }, 'offer refused');
    const refuse: OfferAnswer = {
      v: 1,
      type: 'refuse',
      ...about,
      code,
      message,
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    };
    this.#refusals.set(key, refuse);
    const [oldest] = this.#refusals.keys();
    if (this.#refusals.size > REFUSALS_MAX && oldest !== undefined) this.#refusals.delete(oldest);
    return refuse;
  }

  /** Undefined: it was accepted, and that is on disk. */
  async #refusalOf(
    offer: Offer,
  ): Promise<(SessionFault & { readonly retryAfterSeconds?: number }) | undefined> {
    const { runId, fence, mode, job } = offer;
    if (this.#isClosed || this.#isDraining) return refusal('MachineInMaintenance');
    if (fence <= this.#tools.journal.fenceOf(runId)) return refusal('LeaseLost');
    if (isOlderVersion(this.#tools.agentVersion, job.minAgentVersion)) {
      return refusal('JobSchemaTooNew');
    }
    const others = [...this.#runs.values()].filter(run => run.holdsSlot);
    const before = others.filter(run => run.about.runId === runId);
    if (before.length > 0) {
      // The control plane has given up the attempt before: it must have ended before this one begins.
      for (const run of before) run.drop();
      return later('UIFlowAlreadyRunning');
    }
    const taken = others.filter(run => run.mode === mode).length;
    if (taken >= this.#tools.host.capacity()[mode]) return later('UIFlowAlreadyRunning');
    const problem = this.#tools.host.check({
      mode,
      account: await this.#accountOf(offer),
      hasCredential: offer.credential !== undefined,
      reuseSession: offer.options.reuseSession,
    });
    if (problem !== undefined) {
      const isPassing = JOB_ERRORS[problem.code].class === 'transient';
      return isPassing ? { ...problem, retryAfterSeconds: RETRY_AFTER_SECONDS } : problem;
    }
    return this.#accept(offer);
  }

  async #accept(offer: Offer): Promise<SessionFault | undefined> {
    const { runId, attempt, fence, mode, job } = offer;
    const atMs = this.#tools.clock.wallMs();
    const line = { type: 'ACCEPTED', runId, attempt, fence, mode, jobRef: job.ref, atMs } as const;
    let folder: RunFolder | undefined;
    try {
      folder = await RunFolder.create(this.#folder, offer);
      await this.#tools.journal.write(line);
    } catch (error) {
      // Nothing of it was promised.
      this.#log.error({ runId, fence, err: error }, 'a run could not be written down');
      await folder?.remove();
      const { code, message } = refusal('UIFlowAgentNotAvailable');
      return { code, message: `${message}: the disk of the machine takes nothing` };
    }
    this.#log.info({ runId, attempt, fence, jobRef: job.ref }, 'run accepted');
    this.#begin({ ...line, state: 'ACCEPTED', launched: undefined }, folder);
    return undefined;
  }

  async #forget({ runId, attempt, fence }: JournalEntry): Promise<void> {
    const { journal, clock, log } = this.#tools;
    const about = { runId, attempt, fence };
    log.warn(about, 'a run that another computer began is left to it');
    try {
      await journal.write({ type: 'OVER', ...about, atMs: clock.wallMs() });
    } catch (error) {
      // The next process of the service forgets it.
      log.error({ ...about, err: error }, 'a run could not be written down');
    }
  }

  #begin(entry: JournalEntry, folder: RunFolder): void {
    const key = keyOf(entry);
    const run = new ActiveRun(entry, folder, this.#tools);
    this.#runs.set(key, run);
    void run.done.then(() => this.#runs.delete(key));
  }

  /** Who would sign in, where that matters before the start. What cannot be opened is told after it. */
  async #accountOf(offer: Offer) {
    const { host, opener, journal, log } = this.#tools;
    if (!host.looksAtAccounts || offer.credential === undefined) return undefined;
    const seen = offer.connection === undefined ? 0 : journal.versionOf(offer.connection.id);
    const opened = await openSecrets({ ...offer, sealedInputs: {} }, opener, seen, log);
    if ('outcome' in opened) return undefined;
    opened[Symbol.dispose]();
    return opened.account;
  }
}

function refusal(code: JobErrorCode): SessionFault {
  return { code, message: JOB_ERRORS[code].text };
}

function later(code: JobErrorCode) {
  return { ...refusal(code), retryAfterSeconds: RETRY_AFTER_SECONDS };
}

function keyOf({ runId, attempt, fence }: Attempt): string {
  return `${runId} ${attempt} ${fence}`;
}

/** Whether an attempt of the journal can be seen on this computer. */
async function isHere(
  { state, launched }: JournalEntry,
  folder: RunFolder | undefined,
): Promise<boolean> {
  if (state === 'RESULT') return true;
  if (launched === undefined) return false;
  return isAlive(launched.executor) || (await folder?.readOutcome()) !== undefined;
}

/** In place of one that was lost, for what is left to do: nothing of it is launched. */
function unknownOffer({ runId, attempt, fence, mode, jobRef }: JournalEntry): Offer {
  return {
    v: 1,
    type: 'offer',
    runId,
    attempt,
    fence,
    deadline: '1970-01-01T00:00:00.000Z',
    mode,
    job: { ref: jobRef, kind: 'probe' },
    inputs: {},
    sealedInputs: {},
    limits: { runSeconds: 1, logBytes: 0, chunkBytes: 1, outputBytes: 0 },
    options: { reuseSession: false },
  };
}
