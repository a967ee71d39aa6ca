import { HYBRID_CONNECTIONS, startHalfway } from '../subjects/halfway.ts';
import type { Halfway } from '../subjects/halfway.ts';
import { Cleanup } from '../support/cleanup.ts';
import { startGenerator } from '../support/generator.ts';
import { IdlePollers } from '../support/idle-pollers.ts';
import { listenPaths, openListeners } from '../support/listeners.ts';
import { cpuMs, memoryBytes, openFiles, PINNING, sleep } from '../support/process.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';

/** As the relay has it by default; what proxies on the way let pass. */
const HOLD_MS = 25_000;
const QUICK_HOLD_MS = 2_000;
const SETTLE_MS = 1_500;
const REACHED_TIMEOUT_MS = 5_000;

interface Idle {
  readonly name: string;
  readonly kib: number;
  readonly openUs: number;
  readonly loadPercent: number;
  readonly pollsPerSec: number;
  readonly files: number;
}

/**
 * What long-poll listeners cost that nobody wants anything of: each has a poll held and asks again when that comes back
 * empty. Measured over two hold times, after which all have to be there; beside listeners with WebSockets.
 */
async function run(options: ScenarioOptions): Promise<Result> {
  const count = options.isQuick ? 500 : 5_000;
  const holdMs = options.isQuick ? QUICK_HOLD_MS : HOLD_MS;
  await using cleanup = new Cleanup();
  const flags = ['--poll-hold-ms', String(holdMs)];
  const byWebSocket = await idleWebSockets(options, cleanup, { count, holdMs, flags });
  const byPoll = await idlePolls(options, cleanup, { count, holdMs, flags });
  return {
    scenario: 'poll-idle',
    command: 'npm run bench poll-idle',
    about: `${count.toLocaleString('en-US')} listeners that do nothing, polls held ${holdMs / 1_000} s; ${PINNING}`,
    columns: [
      'listeners by',
      'KiB each',
      'this/websocket',
      'CPU µs to open',
      'CPU idle %',
      'polls/s',
      'CPU µs/poll',
      'files each',
    ],
    rows: [byWebSocket, byPoll].map((idle): readonly Cell[] => [
      idle.name,
      idle.kib,
      idle.kib / byWebSocket.kib,
      idle.openUs,
      idle.loadPercent,
      idle.pollsPerSec,
      (idle.loadPercent * 10_000) / idle.pollsPerSec,
      idle.files,
    ]),
    notes: [
      'All listeners were there after two hold times, no poll had failed, and one of each hybrid',
      'connection tried was reached by a request.',
      `A node needs as many open files as it has listeners, and a hundred: an ulimit -n of ${count + 100}.`,
      'Memory of the process only; the kernel keeps its socket buffers on top.',
    ],
  };
}

export const pollIdle: Scenario = { name: 'poll-idle', run };

interface IdleOptions {
  readonly count: number;
  readonly holdMs: number;
  readonly flags: readonly string[];
}

async function idleWebSockets(
  options: ScenarioOptions,
  cleanup: Cleanup,
  { count, holdMs, flags }: IdleOptions,
): Promise<Idle> {
  options.progress(`${count} listeners by WebSocket`);
  const halfway = cleanup.use(await startHalfway(flags));
  const generator = cleanup.use(startGenerator());
  const paths = listenPaths(halfway, HYBRID_CONNECTIONS);
  const idle = await measure(halfway, 'websocket', {
    count,
    windowMs: 2 * holdMs,
    open: () => openListeners(generator, [halfway], { count, paths }),
  });
  const { lost } = await generator.mark();
  if (lost > 0) throw new Error(`${lost} listeners were closed while idle`);
  return idle;
}

async function idlePolls(
  options: ScenarioOptions,
  cleanup: Cleanup,
  { count, holdMs, flags }: IdleOptions,
): Promise<Idle> {
  options.progress(`${count} listeners by long-polling`);
  const halfway = cleanup.use(await startHalfway(flags));
  const pollers = cleanup.use(new IdlePollers(halfway, listenPaths(halfway, HYBRID_CONNECTIONS)));
  const idle = await measure(halfway, 'poll', {
    count,
    windowMs: 2 * holdMs,
    open: () => pollers.open(count),
  });
  const there = await halfway.metric('halfway_poll_sessions{role="listener"}');
  const held = await halfway.metric('halfway_poll_held_polls');
  const [fault] = pollers.faults;
  if (there !== count || fault !== undefined) {
    throw new Error(
      `Of ${count} listeners ${there} are there, ${held} with a poll: ${fault ?? 'none failed'}`,
    );
  }
  options.progress('looking whether they can be reached');
  await reachAll(halfway, pollers, Math.min(count, HYBRID_CONNECTIONS));
  return idle;
}

async function measure(
  halfway: Halfway,
  name: string,
  {
    count,
    windowMs,
    open,
  }: {
    readonly count: number;
    readonly windowMs: number;
    readonly open: () => Promise<void>;
  },
): Promise<Idle> {
  const { pid } = halfway;
  const memoryBefore = memoryBytes(pid).now;
  const filesBefore = openFiles(pid);
  const cpuBefore = cpuMs(pid);
  await open();
  const cpuOpened = cpuMs(pid);
  await sleep(SETTLE_MS);
  const cpuSettled = cpuMs(pid);
  const pollsBefore = await halfway.metric('halfway_poll_polls_total');
  const startMs = performance.now();
  await sleep(windowMs);
  const elapsedMs = performance.now() - startMs;
  const cpuUsed = cpuMs(pid) - cpuSettled;
  const polls = (await halfway.metric('halfway_poll_polls_total')) - pollsBefore;
  return {
    name,
    kib: (memoryBytes(pid).now - memoryBefore) / 1_024 / count,
    openUs: ((cpuOpened - cpuBefore) * 1_000) / count,
    loadPercent: (100 * cpuUsed) / elapsedMs,
    pollsPerSec: (polls * 1_000) / elapsedMs,
    files: (openFiles(pid) - filesBefore) / count,
  };
}

/** One request to each of so many hybrid connections: its listener has to see it. Nobody waits for answers. */
async function reachAll(halfway: Halfway, pollers: IdlePollers, count: number): Promise<void> {
  const before = pollers.batches;
  const giveUp = new AbortController();
  const requests = Array.from({ length: count }, async (_, index) => {
    const url = `http://127.0.0.1:${halfway.port}/hc${index}`;
    await fetch(url, { signal: giveUp.signal }).catch(() => undefined);
  });
  const untilMs = performance.now() + REACHED_TIMEOUT_MS;
  while (pollers.batches - before < count && performance.now() < untilMs) await sleep(20);
  const reached = pollers.batches - before;
  giveUp.abort();
  await Promise.all(requests);
  if (reached < count) throw new Error(`Of ${count} listeners only ${reached} were reached`);
}
