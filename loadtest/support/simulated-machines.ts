import type { Offer } from '../../src/jobs/messages.ts';
import { connectionTo, RelayMachine, RestCaller } from '../../test/support/relay-machine.ts';
import { sleep } from './process.ts';

/** At a time: more would only wait in the server's queue. */
const REGISTERING_MAX = 16;

/** As the server wants it: a machine that is silent for longer is offered nothing. */
const HELLO_EVERY_MS = 30_000;

/** What is known of one run, in milliseconds of one clock. */
export interface TimedRun {
  /** When its request was sent. */
  askedAtMs: number;
  /** When the machine had it and said yes. */
  acceptedAtMs: number;
  /** When the run before it on its machine was over for the server; undefined: it found the machine idle. */
  freedAtMs: number | undefined;
}

/**
 * Computers that take runs, all in this process: each listens through the relay, checks signatures, says hello and all
 * else by REST as real ones do, and sleeps in the place of a job.
 */
export class SimulatedMachines implements AsyncDisposable {
  readonly #admin: RestCaller;
  readonly #machines: { readonly machine: RelayMachine; readonly connectionId: string }[] = [];
  readonly #freedAtMs = new Map<string, number>();
  readonly #greetings: NodeJS.Timeout[] = [];
  readonly #faults: string[] = [];
  #runs = new Map<string, TimedRun>();
  #jobMs: () => number = () => 0;
  #ended = 0;
  #onEnd: () => void = () => undefined;

  constructor(origin: string, token: string) {
    this.#admin = new RestCaller(origin, token);
  }

  /** Registers so many and connects them, each with a connection that needs no account. */
  async open(count: number, progress: (done: number) => void): Promise<void> {
    await this.#admin.get('POST', '/environments', { id: 'dev' });
    let next = 0;
    const openers = Array.from({ length: REGISTERING_MAX }, async () => {
      while (next < count) {
        next += 1;
        const machine = await RelayMachine.register(this.#admin, `machine ${next}`);
        machine.work = (_machine, offer) => this.#work(machine, offer);
        await machine.connect();
        this.#greet(machine);
        this.#machines.push({ machine, connectionId: await connectionTo(this.#admin, machine.id) });
        progress(this.#machines.length);
      }
    });
    await Promise.all(openers);
  }

  /** Runs of one phase from here on: how long each takes, and no times of earlier ones. */
  begin(jobMs: () => number): void {
    this.#runs = new Map();
    this.#freedAtMs.clear();
    this.#jobMs = jobMs;
    this.#ended = 0;
  }

  /** Queues a run for machine number `index`, whichever that is. Rejects when it is refused. */
  async ask(index: number): Promise<void> {
    const { connectionId } = this.#machines[index % this.#machines.length] ?? {};
    const askedAtMs = performance.now();
    const job = { ref: 'load', kind: 'command', command: ['true'] };
    const body = { connectionId, mode: 'attended', job };
    const run = await this.#admin.get('POST', '/environments/dev/runs', body);
    // Its machine may have it already.
    this.#runOf(String(run['id'])).askedAtMs = askedAtMs;
  }

  /** Resolves with the times of all when so many have ended. Rejects when a machine failed at anything. */
  async ended(count: number, progress: (done: number) => void): Promise<readonly TimedRun[]> {
    await new Promise<void>(resolve => {
      this.#onEnd = () => {
        progress(this.#ended);
        if (this.#ended >= count || this.#faults.length > 0) resolve();
      };
      this.#onEnd();
    });
    const [fault] = this.#faults;
    if (fault !== undefined) throw new Error(`Of the simulated machines one failed: ${fault}`);
    return [...this.#runs.values()];
  }

  #greet(machine: RelayMachine): void {
    const hello = (): void => {
      machine.hello().catch((error: unknown) => this.#faults.push(String(error)));
    };
    this.#greetings.push(setInterval(hello, HELLO_EVERY_MS));
  }

  async #work(machine: RelayMachine, offer: Offer): Promise<void> {
    const run = this.#runOf(offer.runId);
    run.acceptedAtMs = performance.now();
    run.freedAtMs = this.#freedAtMs.get(machine.id);
    try {
      await machine.start(offer);
      const jobMs = this.#jobMs();
      if (jobMs > 0) await sleep(jobMs);
      await machine.succeed(offer);
    } catch (error) {
      this.#faults.push(String(error));
    }
    this.#freedAtMs.set(machine.id, performance.now());
    this.#ended += 1;
    this.#onEnd();
  }

  #runOf(id: string): TimedRun {
    const known = this.#runs.get(id);
    if (known !== undefined) return known;
    const run: TimedRun = { askedAtMs: Number.NaN, acceptedAtMs: Number.NaN, freedAtMs: undefined };
    this.#runs.set(id, run);
    return run;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const greeting of this.#greetings) clearInterval(greeting);
    await Promise.all(this.#machines.map(({ machine }) => machine.disconnect()));
  }
}
