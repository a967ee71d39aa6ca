import { startCluster, untilKnown } from '../subjects/cluster.ts';
import type { Cluster } from '../subjects/cluster.ts';
import { HYBRID_CONNECTIONS } from '../subjects/halfway.ts';
import { leftOutWithoutRedis } from '../subjects/redis.ts';
import { Cleanup } from '../support/cleanup.ts';
import { startGenerator } from '../support/generator.ts';
import { listenPaths, openListeners } from '../support/listeners.ts';
import { cpuMs, memoryBytes, PINNING, sleep } from '../support/process.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';

const NODES = 3;
const MIB = 1 << 20;
/** Until what opening has left to do is done: collected garbage, acknowledged changes. */
const SETTLE_MS = 5_000;
const NAMED_COMMANDS = 5;

interface Rest {
  /** Calls of each command in a second. */
  readonly commands: ReadonlyMap<string, number>;
  readonly commandsPerSec: number;
  /** Of one core. */
  readonly nodePercents: readonly number[];
  readonly redisPercent: number;
  readonly nodeMib: number;
}

/** What listeners that do nothing cost Redis and their nodes, beside the same nodes with none. */
async function run(options: ScenarioOptions): Promise<Result> {
  const leftOut = leftOutWithoutRedis('at-rest');
  if (leftOut !== undefined) return leftOut;
  const count = options.isQuick ? 1_000 : 10_000;
  const windowMs = options.isQuick ? 5_000 : 30_000;
  await using cleanup = new Cleanup();
  options.progress(`starting ${NODES} nodes`);
  const cluster = await startCluster(NODES, cleanup);
  const { nodes, redis } = cluster;
  const [node] = nodes;
  if (node === undefined) throw new Error('Nodes were started');
  options.progress('no listeners');
  await sleep(SETTLE_MS);
  const none = await measureRest(cluster, windowMs);

  options.progress(`opening ${count} listeners`);
  const generator = cleanup.use(startGenerator());
  const callsBefore = sumOf((await redis.commandCalls()).values());
  const startMs = performance.now();
  await openListeners(generator, nodes, { count, paths: listenPaths(node, HYBRID_CONNECTIONS) });
  await untilKnown(nodes, count);
  const openedMs = performance.now() - startMs;
  const openingCalls = sumOf((await redis.commandCalls()).values()) - callsBefore;
  options.progress(`${count} listeners at rest`);
  await sleep(SETTLE_MS);
  const all = await measureRest(cluster, windowMs);
  const { lost } = await generator.mark();
  if (lost > 0) throw new Error(`${lost} listeners were closed while at rest`);

  return {
    scenario: 'at-rest',
    command: 'npm run bench at-rest',
    about: `listeners that do nothing, on ${NODES} nodes, for ${windowMs / 1_000} s; ${PINNING}`,
    columns: [
      'listeners',
      'Redis commands/s',
      'this/none',
      ...nodes.map((_, index) => `node-${index} CPU %`),
      'this/none',
      'Redis CPU %',
      'MiB/node',
    ],
    rows: [rowOf(0, none, none), rowOf(count, all, none)],
    notes: [
      `commands/s, with none: ${commonest(none)}`,
      `commands/s, with all:  ${commonest(all)}`,
      'Commands are those of INFO commandstats: a script counts, and each command in it.',
      `Opening took ${(openedMs / 1_000).toFixed(1)} s until every node knew all, and ` +
        `${(openingCalls / count).toFixed(1)} commands for each listener.`,
    ],
  };
}

export const atRest: Scenario = { name: 'at-rest', run };

async function measureRest({ nodes, redis }: Cluster, windowMs: number): Promise<Rest> {
  const pids = [...nodes.map(node => node.pid), redis.pid];
  const callsBefore = await redis.commandCalls();
  const cpuBefore = pids.map(cpuMs);
  const startMs = performance.now();
  await sleep(windowMs);
  const elapsedMs = performance.now() - startMs;
  const percents = pids.map((pid, index) => {
    return (100 * (cpuMs(pid) - (cpuBefore[index] ?? 0))) / elapsedMs;
  });
  const commands = new Map(
    [...(await redis.commandCalls())].map(([name, calls]) => [
      name,
      ((calls - (callsBefore.get(name) ?? 0)) * 1_000) / elapsedMs,
    ]),
  );
  return {
    commands,
    commandsPerSec: sumOf(commands.values()),
    nodePercents: percents.slice(0, -1),
    redisPercent: percents.at(-1) ?? Number.NaN,
    nodeMib: sumOf(nodes.map(node => memoryBytes(node.pid).now)) / MIB / nodes.length,
  };
}

function rowOf(listeners: number, rest: Rest, none: Rest): readonly Cell[] {
  return [
    listeners.toLocaleString('en-US'),
    rest.commandsPerSec,
    rest.commandsPerSec / none.commandsPerSec,
    ...rest.nodePercents,
    sumOf(rest.nodePercents) / sumOf(none.nodePercents),
    rest.redisPercent,
    rest.nodeMib,
  ];
}

function commonest({ commands }: Rest): string {
  return [...commands]
    .filter(([, perSec]) => perSec > 0)
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, NAMED_COMMANDS)
    .map(([name, perSec]) => `${name} ${perSec.toFixed(1)}`)
    .join(', ');
}

function sumOf(values: Iterable<number>): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}
