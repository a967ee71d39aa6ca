import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'hdr-histogram-js';
import { HybridConnectionListener } from '../../src/client/client.ts';
import { startHalfway, type Halfway } from '../subjects/halfway.ts';
import { Cleanup } from '../support/cleanup.ts';
import { cpuMs, memoryBytes, PINNING, sleep, starvedMs } from '../support/process.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';
import { SimulatedMachines, type TimedRun } from '../support/simulated-machines.ts';

const TOKEN = 'hwt_load-test-load-test-load-test-load-test';
const MIB = 1024 * 1024;
/** Requests for runs at a time, while a backlog is made. */
const ASKING_MAX = 32;
const SETTLE_MS = 2_000;

interface Size {
  readonly machines: number;
  /** In the backlog, over all machines. */
  readonly backlog: number;
  readonly flatOut: number;
  readonly single: number;
  /** Of single runs and of relayed requests. */
  readonly perSec: number;
  /** How long jobs of the backlog take, in the mean: a machine takes its next run so often. */
  readonly jobMs: number;
}

const FULL: Size = {
  machines: 1_000,
  backlog: 10_000,
  flatOut: 3_000,
  single: 1_000,
  perSec: 50,
  jobMs: 10_000,
};
const QUICK: Size = {
  machines: 50,
  backlog: 250,
  flatOut: 150,
  single: 50,
  perSec: 25,
  jobMs: 1_000,
};

interface Measured extends Usage {
  readonly name: string;
  readonly count: number;
  readonly perSec: number;
  readonly latenciesMs: readonly number[];
}

/**
 * How soon a machine has a run that it could have: single runs for idle machines, then a backlog whose runs follow one
 * another on each machine, then as fast as it goes; beside requests that the relay only passes on.
 */
async function run(options: ScenarioOptions): Promise<Result> {
  const size = options.isQuick ? QUICK : FULL;
  await using cleanup = new Cleanup();
  const halfway = await startDispatching(cleanup);
  const relayed = await relayedRequests(halfway, size, options);
  const machines = cleanup.use(new SimulatedMachines(`http://127.0.0.1:${halfway.port}`, TOKEN));
  const cpuBefore = cpuMs(halfway.pid);
  await machines.open(size.machines, done =>
    options.progress(`registering machines: ${done} of ${size.machines}`),
  );
  const registeringMs = (cpuMs(halfway.pid) - cpuBefore) / size.machines;
  await sleep(SETTLE_MS);
  const idlePercent = await idleLoad(halfway, options);
  const single = await singleRuns(halfway, machines, size, options);
  const { paced, askedPerSec } = await backlog(halfway, machines, size, options);
  const flatOut = await asFastAsItGoes(halfway, machines, size, options);
  return {
    scenario: 'dispatch',
    command: 'npm run bench dispatch',
    about: `${grouped(size.machines)} simulated machines, records in SQLite; ${PINNING}`,
    columns: [
      'what',
      'count',
      'per s',
      'p50 ms',
      'p99 ms',
      'max ms',
      'CPU ms each',
      'this/request',
      'CPU %',
      'starved %',
    ],
    rows: [relayed, single, paced, flatOut].map(each => rowOf(each, relayed)),
    notes: [
      'request: from sending to the answer. single run: from sending its request to its acceptance at the',
      `machine, which is idle. backlog: ${grouped(size.backlog)} runs wait; from the end of one on a machine, as the`,
      'server has it, to the acceptance of the next. Wanted is a p99 below 100 ms in both, and CPU below 100 %.',
      'starved: of the time so much the server could have run and other programs had its core; more than a little,',
      'and the times are theirs.',
      `Each run is asked for, offered, started and ended. The backlog was asked for at ${askedPerSec.toFixed(0)} runs/s.`,
      `Registering a machine, its listener and its connection: ${registeringMs.toFixed(1)} ms of CPU. Machines that`,
      `do nothing but listen and say hello: ${idlePercent.toFixed(1)} % CPU. Memory at the end: ${(memoryBytes(halfway.pid).now / MIB).toFixed(0)} MiB.`,
    ],
  };
}

export const dispatch: Scenario = { name: 'dispatch', run };

async function startDispatching(cleanup: Cleanup): Promise<Halfway> {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-loadtest-dispatch-'));
  cleanup.use({
    [Symbol.asyncDispose]: () => {
      rmSync(folder, { recursive: true });
      return Promise.resolve();
    },
  });
  const tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, TOKEN);
  const flags = ['--dispatch', '--data', join(folder, 'data'), '--api-token-file', tokenFile];
  return cleanup.use(await startHalfway(flags));
}

/** What the relay's part of an offer costs: a request there and back, by a listener of the same library. */
async function relayedRequests(
  halfway: Halfway,
  size: Size,
  { progress }: ScenarioOptions,
): Promise<Measured> {
  const listener = new HybridConnectionListener(
    { connectionString: halfway.connectionString('hc0') },
    { onRequest: () => Promise.resolve({ status: 200, body: 'here' }) },
  );
  await listener.open();
  const ask = async (): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${halfway.port}/hc0`, {
      method: 'POST',
      body: 'x',
    });
    if ((await answer.text()) !== 'here') throw new Error('A relayed request failed');
  };
  await atRate(20, size.perSec, ask);
  progress('relayed requests');
  const latenciesMs: number[] = [];
  const used = usage(halfway);
  await atRate(size.single, size.perSec, async () => {
    const startMs = performance.now();
    await ask();
    latenciesMs.push(performance.now() - startMs);
  });
  const measured = used();
  await listener.close();
  return {
    name: 'relayed request',
    count: size.single,
    latenciesMs,
    ...perSecond(size.single, measured),
  };
}

async function idleLoad(halfway: Halfway, { isQuick, progress }: ScenarioOptions): Promise<number> {
  progress('machines that do nothing');
  const used = usage(halfway);
  await sleep(isQuick ? 1_000 : 30_000);
  const { cpuMs: cpu, elapsedMs } = used();
  return (100 * cpu) / elapsedMs;
}

async function singleRuns(
  halfway: Halfway,
  machines: SimulatedMachines,
  size: Size,
  { progress }: ScenarioOptions,
): Promise<Measured> {
  machines.begin(() => 0);
  const used = usage(halfway);
  let index = 0;
  await atRate(size.single, size.perSec, () => machines.ask((index += 1)));
  const runs = await machines.ended(size.single, done => progress(`single runs: ${done}`));
  return {
    name: 'single run',
    count: size.single,
    latenciesMs: runs.map(({ askedAtMs, acceptedAtMs }) => acceptedAtMs - askedAtMs),
    ...perSecond(size.single, used()),
  };
}

/** All are asked for at once, while the machines begin; then these go on, each at its own pace. */
async function backlog(
  halfway: Halfway,
  machines: SimulatedMachines,
  size: Size,
  { progress }: ScenarioOptions,
): Promise<{ readonly paced: Measured; readonly askedPerSec: number }> {
  machines.begin(() => 2 * size.jobMs * Math.random());
  const startMs = performance.now();
  const used = usage(halfway);
  await askAll(machines, size.backlog, done => progress(`asking: ${done} of ${size.backlog}`));
  const askedPerSec = (size.backlog * 1_000) / (performance.now() - startMs);
  const runs = await machines.ended(size.backlog, done => progress(`backlog: ${done} ended`));
  const latenciesMs = runs.map(fromFreed).filter(ms => ms !== undefined);
  const paced = {
    name: 'run of a backlog',
    count: size.backlog,
    latenciesMs,
    ...perSecond(size.backlog, used()),
  };
  return { paced, askedPerSec };
}

async function asFastAsItGoes(
  halfway: Halfway,
  machines: SimulatedMachines,
  size: Size,
  { progress }: ScenarioOptions,
): Promise<Measured> {
  machines.begin(() => 0);
  const used = usage(halfway);
  await askAll(machines, size.flatOut, done => progress(`flat out: ${done} asked`));
  const runs = await machines.ended(size.flatOut, done => progress(`flat out: ${done} ended`));
  return {
    name: 'flat out',
    count: size.flatOut,
    latenciesMs: runs.map(({ askedAtMs, acceptedAtMs }) => acceptedAtMs - askedAtMs),
    ...perSecond(size.flatOut, used()),
  };
}

async function askAll(
  machines: SimulatedMachines,
  count: number,
  progress: (done: number) => void,
): Promise<void> {
  let next = 0;
  const askers = Array.from({ length: ASKING_MAX }, async () => {
    while (next < count) {
      next += 1;
      progress(next);
      await machines.ask(next);
    }
  });
  await Promise.all(askers);
}

/** Undefined: it was the first one of its machine, or was asked for after the one before had ended. */
function fromFreed({ freedAtMs, askedAtMs, acceptedAtMs }: TimedRun): number | undefined {
  return freedAtMs === undefined || askedAtMs > freedAtMs ? undefined : acceptedAtMs - freedAtMs;
}

/** Begins so many a second, however long each takes, and waits for all. */
async function atRate(count: number, perSec: number, begin: () => Promise<void>): Promise<void> {
  const startMs = performance.now();
  const all: Promise<void>[] = [];
  for (let n = 0; n < count; n += 1) {
    const dueMs = startMs + (n * 1_000) / perSec;
    const waitMs = dueMs - performance.now();
    if (waitMs > 0) await sleep(waitMs);
    all.push(begin());
  }
  await Promise.all(all);
}

interface Usage {
  readonly cpuMs: number;
  readonly starvedMs: number;
  readonly elapsedMs: number;
}

function usage({ pid }: Halfway): () => Usage {
  const before = { cpuMs: cpuMs(pid), starvedMs: starvedMs(pid), startMs: performance.now() };
  return () => ({
    cpuMs: cpuMs(pid) - before.cpuMs,
    starvedMs: starvedMs(pid) - before.starvedMs,
    elapsedMs: performance.now() - before.startMs,
  });
}

function perSecond(count: number, used: Usage): Usage & { readonly perSec: number } {
  return { ...used, perSec: (count * 1_000) / used.elapsedMs };
}

function grouped(value: number): string {
  return value.toLocaleString('en-US');
}

function rowOf(measured: Measured, relayed: Measured): readonly Cell[] {
  const { name, count, perSec, latenciesMs, elapsedMs } = measured;
  const histogram = build({ numberOfSignificantValueDigits: 3 });
  for (const ms of latenciesMs) histogram.recordValue(Math.max(1, Math.round(ms * 1_000)));
  const [p50 = 0, p99 = 0] = [50, 99].map(share => histogram.getValueAtPercentile(share) / 1_000);
  const eachMs = measured.cpuMs / count;
  const ratio = eachMs / (relayed.cpuMs / relayed.count);
  const maxMs = histogram.maxValue / 1_000;
  const percents = [measured.cpuMs, measured.starvedMs].map(ms => (100 * ms) / elapsedMs);
  return [name, count, perSec, p50, p99, maxMs, eachMs, ratio, ...percents];
}
