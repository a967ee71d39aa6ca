import { below } from './seeded.ts';

const PAUSE_MS_MAX = 1_500;
const DEAD_MS_MAX = 2_000;
/** So often a program may fail to start that nobody has killed meanwhile. */
const FAILED_STARTS_MAX = 10;

/** A program that is killed and started again. */
export interface Mortal {
  readonly isRunning: boolean;
  start(): Promise<void>;
  kill(): Promise<void>;
}

/** A kind of things to kill, and how often it is its turn. */
export interface Prey {
  readonly kind: string;
  readonly weight: number;
  /** Kills one at once, and sees to its coming back. False: there is none now. */
  readonly strike: () => Promise<boolean>;
}

/** Kills at random instants, one after another. */
export class RandomKills {
  readonly #random: () => number;
  readonly #prey: readonly Prey[];
  readonly #counts = new Map<string, number>();
  #isOver = false;
  readonly #done: Promise<void>;

  /** Begins at once. */
  constructor(random: () => number, prey: readonly Prey[]) {
    this.#random = random;
    this.#prey = prey;
    this.#done = this.#killOn();
    // Told by `stop`.
    this.#done.catch(() => undefined);
  }

  /** By kind. */
  get counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counts);
  }

  /** Resolves when the last kill is over. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#done;
  }

  async #killOn(): Promise<void> {
    for (;;) {
      await sleep(below(this.#random, PAUSE_MS_MAX));
      if (this.#isOver) return;
      const { kind, strike } = this.#pick();
      if (await strike()) this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
    }
  }

  #pick(): Prey {
    let left = this.#random() * this.#prey.reduce((sum, { weight }) => sum + weight, 0);
    const picked = this.#prey.find(({ weight }) => {
      left -= weight;
      return left < 0;
    });
    if (picked === undefined) throw new Error('There is nothing to kill');
    return picked;
  }
}

/** One of several programs, which comes back after a while; what fails to start is started again. */
export class MortalOnes {
  readonly #random: () => number;
  readonly #ones: readonly Mortal[];
  readonly #revivals = new Map<Mortal, Promise<void>>();

  constructor(random: () => number, ones: readonly Mortal[]) {
    this.#random = random;
    this.#ones = ones;
  }

  readonly strike = async (): Promise<boolean> => {
    const living = this.#ones.filter(one => one.isRunning);
    const one = living[below(this.#random, living.length)];
    if (one === undefined) return false;
    await one.kill();
    if (!this.#revivals.has(one)) {
      const revival = this.#revive(one).finally(() => this.#revivals.delete(one));
      // Its failure is told by `whole`, or nobody waits for it any more.
      revival.catch(() => undefined);
      this.#revivals.set(one, revival);
    }
    return true;
  };

  /** Resolves when all are there again. */
  async whole(): Promise<void> {
    await Promise.all(this.#revivals.values());
    for (const one of this.#ones) if (!one.isRunning) await this.#revive(one);
  }

  async #revive(one: Mortal): Promise<void> {
    let failures = 0;
    while (!one.isRunning) {
      // As a supervisor does at once, or somebody later.
      if (this.#random() < 0.5) await sleep(below(this.#random, DEAD_MS_MAX));
      try {
        await one.start();
      } catch (error) {
        // Killed while it started, as a rule.
        failures += 1;
        if (failures > FAILED_STARTS_MAX) throw error;
        await one.kill();
      }
    }
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => void setTimeout(resolve, ms));
}
