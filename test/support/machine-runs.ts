import { join } from 'node:path';
import { Problem } from '../../src/dispatch/problem.ts';
import { RUN_INPUT, type Run } from '../../src/dispatch/run-record.ts';
import { JOB_ERRORS } from '../../src/jobs/error-codes.ts';
import type { Job, Offer } from '../../src/jobs/messages.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { Logger } from '../../src/base/logger.ts';
import { openJobDoor, type JobDoorOptions } from '../../src/machine/open-job-door.ts';
import {
  ReportError,
  type CredentialOpener,
  type JobDoor,
  type RunReporter,
} from '../../src/machine/ports.ts';
import { ProcessHost } from '../../src/machine/session-hosts/process-host.ts';
import { dispatchBench } from './dispatch.ts';
import { silentLogger } from './silent-logger.ts';
import { someFolder } from './some-folder.ts';
import { until } from './within.ts';

const MACHINE = 'm1';

/** Opens nothing: for offers without anything sealed. */
export const noOpener: CredentialOpener = {
  open: () => Promise.reject(new Error('nothing is sealed here')),
  openInputs: () => Promise.reject(new Error('nothing is sealed here')),
};

/** The control plane's own records and rules, in memory, and a machine's reports straight to them. */
export async function controlBench() {
  const bench = dispatchBench();
  await bench.addMachine(MACHINE);
  await bench.addConnection('c1', { kind: 'machine', id: MACHINE });
  const calls: string[] = [];
  const offers = new Map<string, Offer>();
  const channel = {
    /** False: nothing comes through. */
    isReachable: true,
    /** Called before and after each report: what it throws is the answer. */
    disturb: (_when: 'before' | 'after'): void => undefined,
  };
  const report = async <T>(name: string, make: () => Promise<T>): Promise<T> => {
    calls.push(name);
    if (!channel.isReachable) throw new ReportError('Unreachable', false);
    channel.disturb('before');
    let answer: T;
    try {
      answer = await make();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      throw new ReportError(error.code, JOB_ERRORS[error.code].class === 'terminal');
    }
    channel.disturb('after');
    return answer;
  };
  const { reports, logs } = bench;
  const reporter: RunReporter = {
    start: about => report('start', () => reports.start(MACHINE, about)),
    renew: (about, isLaunched) =>
      report('renew', () => reports.renew(MACHINE, { ...about, isLaunched })),
    startInterrupted: about =>
      report('startInterrupted', () => reports.startInterrupted(MACHINE, about)),
    result: result =>
      report('result', async () => {
        await reports.result(MACHINE, result);
      }),
    progress: progress => report('progress', () => reports.progress(MACHINE, progress)),
    log: chunk => report('log', () => logs.append(MACHINE, chunk)),
  };
  const control = {
    ...bench,
    /** What was reported, in order: `start`, `renew`, … */
    calls,
    channel,
    reporter,
    /** Assigns a waiting run to the machine: its offer. */
    async assign(runId: string, change: Partial<Offer> = {}): Promise<Offer> {
      const { run } = await bench.changes.advance(runId, { type: 'picked', machineId: MACHINE });
      const input = await bench.repository.get(RUN_INPUT, runId);
      if (input === undefined) throw new Error(`run ${runId} has no input`);
      const offer = { ...offerOf(run.value, input.value.job, input.value.inputs), ...change };
      offers.set(runId, offer);
      return offer;
    },
    /** The offer of a run that has its machine and has not heard from it. */
    offerAgain(runId: string): Offer {
      const offer = offers.get(runId);
      if (offer === undefined) throw new Error(`run ${runId} was never offered`);
      return offer;
    },
    unreachable: () => new ReportError('Unreachable', false),
    async submitted(job: Partial<Job>, change: Partial<Offer> = {}): Promise<Offer> {
      const runId = await bench.submit({ job: { ref: 'job', kind: 'command', ...job } });
      return control.assign(runId, change);
    },
    run: async (runId: string): Promise<Run> => (await bench.changes.get(runId)).value,
    async ended(runId: string, patienceMs = 20_000): Promise<Run> {
      await until(
        `the end of run ${runId}`,
        async () => (await bench.changes.get(runId)).value.endedAtMs !== undefined,
        patienceMs,
      );
      return control.run(runId);
    },
    async logOf(runId: string): Promise<string> {
      const chunks = await bench.logs.read(runId, { after: 0, limit: 1_000 });
      return Buffer.concat(chunks.map(({ bytes }) => bytes)).toString('utf8');
    },
    async outputsOf(runId: string): Promise<unknown> {
      const text = await bench.runs.outputs(
        { name: 'user:ann', isAdmin: false, role: 'maker' },
        runId,
      );
      return text === undefined ? undefined : JSON.parse(text);
    },
  };
  return control;
}
export type ControlBench = Awaited<ReturnType<typeof controlBench>>;

/** An offer as the control plane makes it, for whichever job. */
export function offerOf(
  { id: runId, attempt, fence, mode, runSeconds }: Run,
  job: Job,
  inputs: Record<string, unknown> = {},
): Offer {
  return {
    v: 1,
    type: 'offer',
    runId,
    attempt,
    fence,
    deadline: '2030-01-01T00:00:00.000Z',
    mode,
    job,
    inputs,
    sealedInputs: {},
    limits: { runSeconds, logBytes: 1024 * 1024, chunkBytes: 64 * 1024, outputBytes: 1024 * 1024 },
    options: { reuseSession: false },
  };
}

export interface TestMachine extends AsyncDisposable {
  readonly door: JobDoor;
  readonly folder: string;
  /** Ends this process of the service, as a stop does, and begins the next. */
  restart(): Promise<void>;
}

/** The execution half of a machine service, within this process, over a folder of its own. */
export async function startMachine(
  control: ControlBench,
  options: Partial<JobDoorOptions> & { readonly log?: Logger } = {},
): Promise<TestMachine> {
  const home = someFolder();
  const folder = join(home.path, 'jobs');
  let instance = 0;
  const open = async (): Promise<JobDoor> => {
    instance += 1;
    const door = await openJobDoor({
      folder,
      socketFolder: join(home.path, 's'),
      reporter: control.reporter,
      opener: noOpener,
      host: new ProcessHost({ unattended: 4, attended: 1 }),
      clock: systemClock,
      log: silentLogger,
      instance: `i${instance}`,
      agentVersion: '1.0.0',
      askStandings: () => undefined,
      retryDelayMs: () => 20,
      ...options,
    });
    await door.recover();
    return door;
  };
  let door = await open();
  return {
    get door() {
      return door;
    },
    folder,
    restart: async () => {
      await door.close();
      door = await open();
    },
    [Symbol.asyncDispose]: async () => {
      for (const { runId } of door.runs()) {
        door.cancel({ v: 1, type: 'cancel', runId, mode: 'kill', graceSeconds: 0, by: 'the test' });
      }
      await until('the end of all runs', () => door.runs().length === 0).catch(() => undefined);
      await door.close();
      home[Symbol.dispose]();
    },
  };
}
