import { fork, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { ReportError, type RunReporter } from '../../src/machine/ports.ts';
import * as v from 'valibot';
import { progressSchema, resultSchema, type Offer } from '../../src/jobs/messages.ts';
import type { FromMachineChild, MachineChildOptions, ToMachineChild } from './machine-child.ts';
import { within } from './within.ts';

const START_MS = 30_000;

/** A process of the machine service that can be killed; `reporter` plays the control plane for it. */
export interface MachineProcess {
  readonly pid: number;
  /** What it answers; undefined: it ended before. */
  offer(offer: Offer): Promise<unknown>;
  /** Resolves when it is gone, however that came about. */
  readonly ended: Promise<undefined>;
  /** Ends it at once, as a crash does. Resolves when it is gone. */
  kill(): Promise<void>;
  readonly output: () => string;
}

export async function startMachineProcess(
  options: MachineChildOptions,
  reporter: RunReporter,
  account: { readonly uid?: number; readonly gid?: number } = {},
): Promise<MachineProcess> {
  const child = fork(join(import.meta.dirname, 'machine-child.ts'), [JSON.stringify(options)], {
    execArgv: ['--import', import.meta.resolve('tsx')],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    ...account,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      output += chunk.toString('utf8');
    });
  }
  const ended = new Promise<undefined>(resolve => child.once('exit', () => resolve(undefined)));
  const answers = new Map<number, (answer: unknown) => void>();
  const ready = new Promise<'ready'>(resolve => {
    child.on('message', (message: FromMachineChild) => {
      if (message.type === 'ready') resolve('ready');
      else if (message.type === 'answer') answers.get(message.id)?.(message.answer);
      else void takeReport(child, reporter, message);
    });
  });
  const first = await within('the machine service', Promise.race([ready, ended]), START_MS);
  if (first === undefined) throw new Error(`The machine service ended: ${output}`);
  let last = 0;
  return {
    pid: child.pid ?? 0,
    output: () => output,
    ended,
    offer: offer => {
      last += 1;
      const id = last;
      const answer = new Promise(resolve => void answers.set(id, resolve));
      say(child, { type: 'offer', id, offer });
      return Promise.race([answer, ended]);
    },
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

async function takeReport(
  child: ChildProcess,
  reporter: RunReporter,
  { id, method, about }: Extract<FromMachineChild, { type: 'report' }>,
): Promise<void> {
  try {
    say(child, { type: 'taken', id, value: await call(reporter, method, about) });
  } catch (error) {
    if (!(error instanceof ReportError)) throw error;
    say(child, { type: 'refused', id, code: error.code, isFinal: error.isFinal });
  }
}

/** What the child's reporter was asked, as it came over the line. */
function call(reporter: RunReporter, method: keyof RunReporter, about: unknown): Promise<unknown> {
  switch (method) {
    case 'start':
      return reporter.start(v.parse(startSchema, about));
    case 'renew': {
      const { isLaunched, ...attempt } = v.parse(renewSchema, about);
      return reporter.renew(attempt, isLaunched);
    }
    case 'startInterrupted':
      return reporter.startInterrupted(v.parse(attemptSchema, about));
    case 'result':
      return reporter.result(v.parse(resultSchema, about));
    case 'progress':
      return reporter.progress(v.parse(progressSchema, about));
    default: {
      const { data, ...chunk } = v.parse(logSchema, about);
      return reporter.log({ ...chunk, bytes: Buffer.from(data, 'base64') });
    }
  }
}

const attemptSchema = v.object({ runId: v.string(), attempt: v.number(), fence: v.number() });
const startSchema = v.object({
  ...attemptSchema.entries,
  instance: v.string(),
  agentVersion: v.string(),
});
const renewSchema = v.object({ ...attemptSchema.entries, isLaunched: v.boolean() });
const logSchema = v.object({
  ...attemptSchema.entries,
  offset: v.number(),
  sha256: v.string(),
  data: v.string(),
});

/** A process that was killed hears nothing. */
function say(child: ChildProcess, message: ToMachineChild): void {
  if (child.connected) child.send(message, () => undefined);
}
