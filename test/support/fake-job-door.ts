import type { Cancel, Offer } from '../../src/jobs/messages.ts';
import type { CredentialOpener, JobDoor, RunInHand, RunReporter } from '../../src/machine/ports.ts';

/** A door behind which each run opens its credentials, says what they were, and is over. */
export class FakeJobDoor implements JobDoor {
  readonly #reporter: RunReporter;
  readonly #opener: CredentialOpener;
  readonly #instance: string;
  readonly offers: Offer[] = [];
  readonly cancels: Cancel[] = [];
  readonly opened: string[] = [];
  readonly #runs = new Map<string, RunInHand>();
  isDraining = false;
  isClosed = false;
  /** Runs go on until it resolves. */
  until: Promise<void> = Promise.resolve();

  constructor(reporter: RunReporter, opener: CredentialOpener, instance: string) {
    this.#reporter = reporter;
    this.#opener = opener;
    this.#instance = instance;
  }

  offer(offer: Offer): ReturnType<JobDoor['offer']> {
    const { runId, attempt, fence, mode, job } = offer;
    const about = { v: 1, runId, attempt, fence } as const;
    if (this.isDraining) {
      return Promise.resolve({ ...about, type: 'refuse', code: 'MachineInMaintenance' });
    }
    this.offers.push(offer);
    const acceptedAtMs = Date.now();
    const hand = {
      runId,
      attempt,
      fence,
      mode,
      jobRef: job.ref,
      state: 'LAUNCHED',
      acceptedAtMs,
    } as const;
    this.#runs.set(runId, hand);
    this.#run(offer)
      .finally(() => this.#runs.delete(runId))
      .catch(() => undefined);
    return Promise.resolve({ ...about, type: 'accept' });
  }

  async #run(offer: Offer): Promise<void> {
    const { runId, attempt, fence } = offer;
    const about = { runId, attempt, fence };
    await this.#reporter.start({ ...about, instance: this.#instance, agentVersion: '1.0.0' });
    try {
      const { user, password } = await this.#opener.open(offer);
      this.opened.push(`${user}:${password.toString()}`);
      password.fill(0);
      await this.#reporter.renew(about, true);
      await this.until;
      await this.#reporter.result({
        v: 1,
        type: 'result',
        ...about,
        status: 'Succeeded',
        outputs: { user },
      });
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error)) throw error;
      const code = error.code === 'CredentialContextMismatch' ? error.code : 'KeyIdUnknown';
      const failure = { code, message: error.message } as const;
      await this.#reporter.result({
        v: 1,
        type: 'result',
        ...about,
        status: 'Failed',
        error: failure,
      });
    }
  }

  cancel(cancel: Cancel): void {
    this.cancels.push(cancel);
  }

  journal(): ReturnType<JobDoor['journal']> {
    return [];
  }

  sessions(): ReturnType<JobDoor['sessions']> {
    return [];
  }

  capacity(): ReturnType<JobDoor['capacity']> {
    return { unattended: 1, attended: 0 };
  }

  standings(): void {}

  runs(): readonly RunInHand[] {
    return [...this.#runs.values()];
  }

  setDraining(isDraining: boolean): void {
    this.isDraining = isDraining;
  }

  recover(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }
}
