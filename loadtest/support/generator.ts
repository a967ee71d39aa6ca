import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Writable } from 'node:stream';
import { hasProgram, pinnedCommand, ROOT, running } from './process.ts';
import type { RunningProcess } from './process.ts';

/** Ids of the answering ends lie this far above those of the originating ends they belong to. */
export const ANSWERING = 1_000_000;

export type Traffic = 'pingpong' | 'stream' | 'once';

/** Counters of a generator since its start. */
export interface Counters {
  /** Messages that arrived at any of its sockets: what a relay between them has forwarded. */
  readonly messages: number;
  readonly bytes: number;
  /** Messages sent and not arrived, or arrived and not sent, since the last `start`. Zero once drained. */
  readonly missing: number;
  /** Frames or messages that broke the protocol, had the wrong length, or (checked) the wrong bytes. */
  readonly bad: number;
  readonly lost: number;
  readonly atNs: number;
  /** Round trips since the last `start` or `mark`: nanoseconds and how many took that long (within 1/64). */
  readonly latencies: readonly (readonly [number, number])[];
}

type Event =
  | { readonly event: 'open'; readonly id: number }
  /** A pair of `once` traffic is closed; one message came back if all went well. */
  | { readonly event: 'done'; readonly id: number; readonly messages: number }
  | { readonly event: 'refused'; readonly id: number; readonly status: string }
  | { readonly event: 'closed'; readonly id: number; readonly why: string }
  | { readonly event: 'listening'; readonly port: number }
  | (Counters & { readonly event: 'mark' | 'drained' });

/** The load generator of generator/generator.cpp: commands and counters are described there. */
export class Generator implements AsyncDisposable {
  readonly #process: RunningProcess;
  readonly #input: Writable;
  readonly #listeners = new Set<(event: Event) => void>();
  #isEnded = false;

  constructor(process: RunningProcess, input: Writable, lines: AsyncIterable<string>) {
    this.#process = process;
    this.#input = input;
    void this.#dispatch(lines);
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Answered by the event `open` or `refused`. */
  dial(id: number, port: number, path: string): void {
    this.#say(`dial ${id} ${port} ${path}`);
  }

  async listen(): Promise<number> {
    const event = this.#next(each => (each.event === 'listening' ? each : undefined));
    this.#say('listen');
    return (await event).port;
  }

  pair(origin: number, answering: number): void {
    this.#say(`pair ${origin} ${answering}`);
  }

  start(options: {
    readonly first: number;
    readonly last: number;
    readonly traffic: Traffic;
    readonly sizeBytes: number;
    readonly window: number;
    readonly check?: boolean;
  }): void {
    const { first, last, traffic, sizeBytes, window, check = false } = options;
    this.#say(`start ${first} ${last} ${traffic} ${sizeBytes} ${window} ${check ? 1 : 0}`);
  }

  async mark(): Promise<Counters> {
    const event = this.#next(each => (each.event === 'mark' ? each : undefined));
    this.#say('mark');
    return event;
  }

  /** Stops sending and waits until everything sent has arrived, or ten seconds; then see `missing`. */
  async drain(): Promise<Counters> {
    const event = this.#next(each => (each.event === 'drained' ? each : undefined));
    this.#say('stop');
    return event;
  }

  stall(id: number, isStalled: boolean): void {
    this.#say(`${isStalled ? 'stall' : 'unstall'} ${id}`);
  }

  drop(id: number): void {
    this.#say(`drop ${id}`);
  }

  /** Calls `listener` for every event until the returned function is called. */
  onEvent(listener: (event: Event) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when all these sockets are open; rejects as soon as one is refused or lost. */
  async opened(ids: Iterable<number>): Promise<void> {
    const awaited = new Set(ids);
    if (awaited.size === 0) return;
    await this.#next(event => {
      if (event.event === 'open') awaited.delete(event.id);
      if ((event.event === 'refused' || event.event === 'closed') && awaited.has(event.id)) {
        throw new Error(`Socket ${event.id} was not opened: ${JSON.stringify(event)}`);
      }
      return awaited.size === 0 ? true : undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnded = true;
    await this.#process[Symbol.asyncDispose]();
  }

  async #dispatch(lines: AsyncIterable<string>): Promise<void> {
    for await (const line of lines) {
      const event: Event = JSON.parse(line);
      for (const listener of this.#listeners) listener(event);
    }
  }

  #next<Found>(find: (event: Event) => Found | undefined): Promise<Found> {
    return new Promise((resolve, reject) => {
      const off = this.onEvent(event => {
        try {
          const found = find(event);
          if (found === undefined) return;
          resolve(found);
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
        off();
      });
    });
  }

  #say(command: string): void {
    // A relay may still offer connections when everything is being ended.
    if (this.#isEnded) return;
    this.#input.write(`${command}\n`);
  }
}

export function startGenerator(): Generator {
  const [program, args] = pinnedCommand([compile()], 'load');
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  return new Generator(running('generator', child), child.stdin, createInterface(child.stdout));
}

/** Compiles when there is no program of this very source yet; under node_modules, where nothing is committed. */
function compile(): string {
  const source = join(ROOT, 'loadtest/generator/generator.cpp');
  const hash = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 16);
  const folder = join(ROOT, 'node_modules/.cache/halfway-loadtest');
  const program = join(folder, `generator-${hash}`);
  if (existsSync(program)) return program;
  if (!hasProgram('g++')) {
    throw new Error('Cannot build the load generator: g++ is missing; apt-get install g++');
  }
  mkdirSync(folder, { recursive: true });
  const unfinished = `${program}.${process.pid}`;
  execFileSync('g++', ['-O2', '-std=c++17', '-Wall', '-Wextra', '-o', unfinished, source]);
  renameSync(unfinished, program);
  return program;
}
