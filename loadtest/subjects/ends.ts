import { createInterface } from 'node:readline';
import { spawn } from 'node:child_process';
import type { EndKind } from '../ends/end.ts';
import type { EndCommand, EndCounters } from '../ends/traffic.ts';
import { pinnedCommand, ROOT, running, typescriptProgram } from '../support/process.ts';
import type { RunningProcess } from '../support/process.ts';

/** A process that plays both ends of pairs. */
export class Ends implements AsyncDisposable {
  readonly #process: RunningProcess;
  readonly #ask: (command: EndCommand) => Promise<EndCounters>;

  constructor(process: RunningProcess, ask: (command: EndCommand) => Promise<EndCounters>) {
    this.#process = process;
    this.#ask = ask;
  }

  get pid(): number {
    return this.#process.pid;
  }

  ask(command: EndCommand): Promise<EndCounters> {
    return this.#ask(command);
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#process[Symbol.asyncDispose]();
  }
}

/** Starts servers/ends.ts; resolves when its pairs are open. Questions reject when it ends. */
export async function startEnds(options: {
  readonly kind: EndKind;
  /** A connection string, or for socket.io a URL. */
  readonly target: string;
  readonly pairs: number;
}): Promise<Ends> {
  const { kind, target, pairs } = options;
  const args = [kind, target, String(pairs)];
  const [program, programArgs] = pinnedCommand(typescriptProgram('servers/ends.ts', args), 'load');
  const child = spawn(program, programArgs, { cwd: ROOT, stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const answer = async (): Promise<string> => {
    const { done, value } = await lines.next();
    if (done === true) throw new Error(`The ends of ${kind} failed`);
    return value;
  };
  const started = running(`ends of ${kind}`, child);
  await answer();
  return new Ends(started, async command => {
    child.stdin.write(`${JSON.stringify(command)}\n`);
    const counters: EndCounters = JSON.parse(await answer());
    return counters;
  });
}
