import { createHash } from 'node:crypto';
import type { Offer, Result } from '../../src/jobs/messages.ts';
import { RestCaller, type RelayMachine } from './relay-machine.ts';
import { until } from './within.ts';

/** A run that a machine has started, told step by step by the test. */
export class JobAtMachine {
  readonly offer: Offer;
  readonly #rest: RestCaller;
  readonly #token: string;
  #logBytes = 0;

  private constructor(offer: Offer, origin: string, token: string) {
    this.offer = offer;
    this.#rest = new RestCaller(origin, token);
    this.#token = token;
  }

  /** From now on the machine starts what it is offered and does no more; resolves with the next one. */
  static next(machine: RelayMachine, origin: string): Promise<JobAtMachine> {
    return new Promise(resolve => {
      machine.work = async (_machine, offer) => {
        await machine.start(offer);
        const { accessToken } = await machine.tokens(origin);
        const job = new JobAtMachine(offer, origin, accessToken);
        await job.#renew();
        resolve(job);
      };
    });
  }

  async log(text: string): Promise<void> {
    const bytes = Buffer.from(text);
    const query = new URLSearchParams({
      offset: String(this.#logBytes),
      fence: String(this.offer.fence),
      sha256: createHash('sha256').update(bytes).digest('hex'),
    });
    const response = await fetch(
      `${this.#rest.origin}/$api/v1${this.#path}/logs?${query.toString()}`,
      {
        method: 'POST',
        headers: {
          authorization: `Bearer ${this.#token}`,
          'content-type': 'application/octet-stream',
        },
        body: bytes,
      },
    );
    if (!response.ok) throw new Error(`log: ${response.status} ${await response.text()}`);
    this.#logBytes += bytes.length;
  }

  async progress(step: string, done: number, total: number): Promise<void> {
    const { runId, attempt, fence } = this.offer;
    const about = { v: 1, type: 'progress', runId, attempt, fence };
    await this.#rest.get('POST', `${this.#path}/progress`, { ...about, step, done, total });
  }

  /** How the machine is told to end it, as soon as it is. */
  async cancelled(): Promise<unknown> {
    let cancel: unknown = null;
    await until('the machine is told to end the run', async () => {
      cancel = await this.#renew();
      return cancel !== null;
    });
    return cancel;
  }

  async end(status: Result['status'], outputs: object = {}): Promise<void> {
    const { runId, attempt, fence } = this.offer;
    const about = { v: 1, type: 'result', runId, attempt, fence };
    await this.#rest.get('PUT', `${this.#path}/result`, { ...about, status, outputs, exitCode: 0 });
  }

  async #renew(): Promise<unknown> {
    const body = { fence: this.offer.fence, isLaunched: true };
    return (await this.#rest.get('PUT', `${this.#path}/renew`, body))['cancel'];
  }

  get #path(): string {
    const { runId, attempt } = this.offer;
    return `/environments/dev/agent/runs/${runId}/attempts/${attempt}`;
  }
}
