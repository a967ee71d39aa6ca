import type { Halfway } from '../subjects/halfway.ts';
import { ANSWERING } from './generator.ts';
import type { Generator } from './generator.ts';
import { sleep } from './process.ts';

/** Ids above those of a scenario's own sockets. */
const FIRST_ID = 500_000;
const PAUSE_MS = 20;
/** A sender that has heard nothing by then counts as refused. */
const PATIENCE_MS = 10_000;

/** A sender that connects again and again, to listeners that accept. */
export interface Lane {
  readonly from: Halfway;
  readonly hybridConnection: string;
}

export interface Probed {
  readonly atMs: number;
  /** From the dial until both ends were open. */
  readonly tookMs: number;
  /** Status line, reason, or silence; undefined when both ends opened. */
  readonly refusal: string | undefined;
}

/** Opens pairs one after another in each lane, drops each when it is open, until stopped. */
export class Probes {
  readonly #generator: Generator;
  readonly #probed: Probed[] = [];
  readonly #running: Promise<unknown>;
  #isStopped = false;
  #nextId = FIRST_ID;

  constructor(generator: Generator, lanes: readonly Lane[]) {
    this.#generator = generator;
    this.#running = Promise.all(lanes.map(async lane => this.#follow(lane)));
  }

  /** Resolves with everything tried, when the last has had its answer. */
  async stop(): Promise<readonly Probed[]> {
    this.#isStopped = true;
    await this.#running;
    return this.#probed;
  }

  async #follow(lane: Lane): Promise<void> {
    while (!this.#isStopped) {
      const id = this.#nextId;
      this.#nextId += 1;
      const atMs = performance.now();
      const refusal = await this.#connect(lane, id);
      this.#probed.push({ atMs, tookMs: performance.now() - atMs, refusal });
      await sleep(PAUSE_MS);
    }
  }

  #connect({ from, hybridConnection }: Lane, id: number): Promise<string | undefined> {
    const ends = [id, ANSWERING + id];
    return new Promise(resolve => {
      let opened = 0;
      const finish = (refusal: string | undefined): void => {
        clearTimeout(timer);
        off();
        for (const end of ends) this.#generator.drop(end);
        resolve(refusal);
      };
      const timer = setTimeout(() => finish('silence'), PATIENCE_MS);
      const off = this.#generator.onEvent(event => {
        if (!('id' in event) || !ends.includes(event.id)) return;
        if (event.event === 'refused') finish(event.status);
        else if (event.event === 'closed') finish(event.why);
        else {
          opened += 1;
          if (opened === ends.length) finish(undefined);
        }
      });
      from.send(hybridConnection, this.#generator, id);
    });
  }
}
