import { Problem } from '../../src/dispatch/problem.ts';
import type { MachineRequest, MachineResponse } from '../../src/dispatch/machine-sender.ts';
import type { RunReports } from '../../src/dispatch/run-reports.ts';
import type { Result } from '../../src/jobs/messages.ts';
import { accepted, NOBODY, offerIn, refused } from './fake-machines.ts';
import { below } from './seeded.ts';

interface Entry {
  readonly runId: string;
  readonly attempt: number;
  readonly fence: number;
  state: 'ACCEPTED' | 'GRANTED' | 'LAUNCHED' | 'RESULT';
  result?: Result['status'];
}

/**
 * A machine with a journal that survives it: section 9.3 with all its ways to die. It does one small thing at
 * a time, when it is told to; `fail` says whether a message gets lost now.
 */
export class SimulatedMachine {
  readonly id: string;
  readonly #random: () => number;
  readonly #fail: () => boolean;
  readonly #journal = new Map<string, Entry>();
  /** Each launch of an executor that ever was, as `runId fence`. */
  readonly launches: string[] = [];
  /** What ran to its end here, and how it ended. */
  readonly finished = new Map<string, Result['status']>();
  isUp = true;
  #instance = 1;

  constructor(id: string, random: () => number, fail: () => boolean) {
    this.id = id;
    this.#random = random;
    this.#fail = fail;
  }

  offered(request: MachineRequest): MachineResponse {
    if (!this.isUp) return NOBODY;
    if (this.#fail()) return { type: 'fault', code: 'ConnectionTimeout' };
    if (!request.path.startsWith('runs/')) return accepted(request);
    const { runId, attempt, fence } = offerIn(request);
    const known = this.#journal.get(runId);
    if (known !== undefined && known.fence > fence) return refused(request, 'LeaseLost');
    if (known !== undefined && known.fence < fence && known.state !== 'ACCEPTED') {
      return refused(request, 'UIFlowAlreadyRunning');
    }
    if (this.#fail()) return refused(request, 'UIFlowAlreadyRunning', { retryAfterSeconds: 5 });
    this.#journal.set(runId, { runId, attempt, fence, state: 'ACCEPTED' });
    // The answer may be lost although it has accepted.
    return this.#fail() ? { type: 'fault', code: 'ConnectionTimeout' } : accepted(request);
  }

  /** Killed: what was running is gone, the journal stays. */
  crash(): void {
    this.isUp = false;
    this.#instance += 1;
    for (const entry of this.#journal.values()) {
      if (entry.state !== 'LAUNCHED') continue;
      entry.state = 'RESULT';
      entry.result = 'Lost';
    }
  }

  /** One thing that it has to do, chosen by chance. */
  async act(reports: RunReports): Promise<void> {
    const entries = [...this.#journal.values()];
    const entry = entries[below(this.#random, entries.length)];
    if (!this.isUp || entry === undefined) return;
    try {
      await this.#advance(entry, reports);
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== 'LeaseLost') throw error;
      // Whoever lost the lease does not start, stops what runs, and forgets it. It may have been granted
      // the start without having heard so: then it is the one who knows that nothing ran.
      if (entry.state === 'ACCEPTED') await this.#interrupted(entry, reports);
      this.#journal.delete(entry.runId);
    }
  }

  async #interrupted(entry: Entry, reports: RunReports): Promise<void> {
    try {
      const { runId, attempt, fence } = entry;
      await reports.startInterrupted(this.id, { runId, attempt, fence });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
    }
  }

  async #advance(entry: Entry, reports: RunReports): Promise<void> {
    const about = { runId: entry.runId, attempt: entry.attempt, fence: entry.fence };
    switch (entry.state) {
      case 'ACCEPTED':
        // The process that was granted the start is the one that launches.
        if (this.#fail()) return;
        await reports.start(this.id, { ...about, instance: `i${this.#instance}` });
        if (this.#fail()) return;
        entry.state = 'GRANTED';
        grantedBy.set(entry, this.#instance);
        return;
      case 'GRANTED':
        if (grantedBy.get(entry) !== this.#instance) {
          await reports.startInterrupted(this.id, about);
          if (!this.#fail()) this.#journal.delete(entry.runId);
          return;
        }
        entry.state = 'LAUNCHED';
        this.launches.push(`${entry.runId} ${entry.fence}`);
        return;
      case 'LAUNCHED': {
        if (this.#fail()) return;
        const { cancel } = await reports.renew(this.id, { ...about, isLaunched: true });
        if (cancel === null && this.#random() < 0.6) return;
        entry.state = 'RESULT';
        entry.result = cancel === null ? 'Succeeded' : 'Cancelled';
        this.finished.set(entry.runId, entry.result);
        return;
      }
      default: {
        if (this.#fail()) return;
        const status = entry.result ?? 'Lost';
        await reports.result(this.id, { v: 1, type: 'result', ...about, status });
        // The acknowledgement may be lost: then it says so again.
        if (!this.#fail()) this.#journal.delete(entry.runId);
      }
    }
  }
}

/** Which process of the service has the permission; in memory, so a new one does not launch. */
const grantedBy = new WeakMap<Entry, number>();
