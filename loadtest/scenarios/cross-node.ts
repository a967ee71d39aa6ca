import { startCluster, untilKnown } from '../subjects/cluster.ts';
import type { Halfway } from '../subjects/halfway.ts';
import { leftOutWithoutRedis } from '../subjects/redis.ts';
import { connectPairs, separateAnsweringId } from '../subjects/subject.ts';
import { Cleanup } from '../support/cleanup.ts';
import { startGenerator } from '../support/generator.ts';
import { check, measure } from '../support/measure.ts';
import type { Measured, Measurement } from '../support/measure.ts';
import { PINNING } from '../support/process.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';
import { median, spread } from '../support/statistics.ts';

const PAIRS = 64;
/** As the relay counts them: the connection itself was handed over, a Unix socket, TCP. */
const STREAM_PATHS = ['handed', 'local', 'tcp'] as const;
/** What a pair across nodes is to keep of the messages per CPU second of a pair on one node. */
const KEPT_PERCENT_MIN = 60;

const CELLS = [
  { name: '1 KiB, one at a time', pairs: PAIRS, sizeBytes: 1_024, window: 1 },
  { name: '1 KiB, 16 in flight', pairs: PAIRS, sizeBytes: 1_024, window: 16 },
  { name: '16 KiB, 4 in flight', pairs: PAIRS, sizeBytes: 16_384, window: 4 },
  { name: '64 KiB, 4 in flight', pairs: PAIRS, sizeBytes: 65_536, window: 4 },
  { name: 'one pair: 1 KiB, 16', pairs: 1, sizeBytes: 1_024, window: 16 },
  { name: 'one pair: 64 KiB, 4', pairs: 1, sizeBytes: 65_536, window: 4 },
] as const;

/**
 * Where the two ends of a pair are: on one node; on two that know that they share a machine; on two of which one is told
 * not to make use of that (`--mesh-local off`), as if a network were between them.
 */
const KINDS = ['same', 'local', 'tcp'] as const;
type Kind = (typeof KINDS)[number];
type Round = Readonly<Record<Kind, Measurement>>;

/**
 * CPU per forwarded message, summed over all nodes, of pairs with both ends on one node and of pairs with one end on
 * each of two. The nodes are the same, the load goes to one kind of pair at a time.
 */
async function run(options: ScenarioOptions): Promise<Result> {
  const leftOut = leftOutWithoutRedis('cross-node');
  if (leftOut !== undefined) return leftOut;
  const rounds = options.isQuick ? 1 : 6;
  const times = options.isQuick
    ? { warmUpMs: 200, windowMs: 1_000 }
    : { warmUpMs: 300, windowMs: 1_000 };
  await using cleanup = new Cleanup();
  options.progress('starting three nodes');
  const { nodes } = await startCluster(3, cleanup, index => [
    '--mesh-local',
    index < 2 ? 'on' : 'off',
  ]);
  const [first, near, far] = nodes;
  if (first === undefined || near === undefined || far === undefined) {
    throw new Error('Three nodes were started');
  }
  const pairsTo = (to: Halfway, hybridConnection: string): Promise<Measured> =>
    openPairs({ from: first, to, hybridConnection, nodes }, cleanup);
  const measured: Readonly<Record<Kind, Measured>> = {
    same: await pairsTo(first, 'hc0'),
    local: await pairsTo(near, 'hc1'),
    tcp: await pairsTo(far, 'hc2'),
  };
  // A pair on one machine that did not take the path of its row would make the row a lie.
  const paths = {
    local: await pathsOf(near),
    tcp: await pathsOf(far),
  };

  const results = new Map<string, Round[]>(CELLS.map(cell => [cell.name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const { name, ...load } of CELLS) {
      options.progress(`round ${round + 1} of ${rounds}: ${name}`);
      const traffic = { traffic: 'pingpong', ...load } as const;
      const found: Partial<Record<Kind, Measurement>> = {};
      // Each is first in turn: a load that grows over minutes must not favour one.
      for (const kind of rotated(KINDS, round)) {
        if (round === 0) await check(measured[kind], traffic, 150);
        found[kind] = await measure(measured[kind], traffic, times);
      }
      const { same, local, tcp } = found;
      if (same === undefined || local === undefined || tcp === undefined) {
        throw new Error('Each kind was measured');
      }
      results.get(name)?.push({ same, local, tcp });
    }
  }
  return {
    scenario: 'cross-node',
    command: 'npm run bench cross-node',
    about: `CPU microseconds of all nodes together per forwarded message, ${PAIRS} pairs; ${PINNING}`,
    columns: [
      'cell',
      'same-node',
      'local',
      'tcp',
      'kept %, local',
      '± %',
      'kept %, tcp',
      '± %',
      'wanted',
    ],
    rows: [...results].map(([name, list]) => rowOf(name, list)),
    notes: [
      `${rounds} rounds of ${times.windowMs} ms for each kind; contents were compared before.`,
      `local: nodes that share a machine (paths of the ${PAIRS} pairs: ${paths.local}). tcp: as between machines (${paths.tcp}).`,
      'kept: same-node / the other, median of the rounds. All nodes share a core.',
    ],
  };
}

export const crossNode: Scenario = { name: 'cross-node', run };

function rotated<Item>(items: readonly Item[], by: number): readonly Item[] {
  const start = by % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
}

/** What the pairs that were opened from this node go over, by its own count. */
async function pathsOf(node: Halfway): Promise<string> {
  const counts = await Promise.all(
    STREAM_PATHS.map(async path => {
      const series = `halfway_mesh_stream_paths_total{path="${path}"}`;
      return [path, await node.metric(series)] as const;
    }),
  );
  return counts
    .filter(([, count]) => count > 0)
    .map(([path, count]) => `${count} ${path}`)
    .join(', ');
}

function rowOf(name: string, rounds: readonly Round[]): readonly Cell[] {
  const kept = (kind: Kind): number[] =>
    rounds.map(round => (100 * round.same.serverUs) / round[kind].serverUs);
  const medianOf = (value: (round: Round) => number): number => median(rounds.map(value));
  return [
    name,
    ...KINDS.map(kind => medianOf(round => round[kind].serverUs)),
    ...(['local', 'tcp'] as const).flatMap(kind => [median(kept(kind)), 100 * spread(kept(kind))]),
    `>= ${KEPT_PERCENT_MIN}`,
  ];
}

/** Pairs whose sender dials `from`, and whose listener has its channel and its other end at `to`. */
async function openPairs(
  place: {
    readonly from: Halfway;
    readonly to: Halfway;
    readonly hybridConnection: string;
    readonly nodes: readonly Halfway[];
  },
  cleanup: Cleanup,
): Promise<Measured> {
  const { from, to, hybridConnection, nodes } = place;
  const generator = cleanup.use(startGenerator());
  const [here, elsewhere] = [
    await from.metric('halfway_cluster_listeners{where="here"}'),
    await from.metric('halfway_cluster_listeners{where="elsewhere"}'),
  ];
  await to.acceptAll(hybridConnection, generator);
  await untilKnown(nodes, here + elsewhere + 1);
  const ends = {
    dialPair: (_: unknown, id: number) => from.send(hybridConnection, generator, id),
    answeringId: separateAnsweringId,
  };
  await connectPairs(ends, generator, { first: 0, count: PAIRS });
  return {
    subject: {
      name: `${hybridConnection}, ${from === to ? 'same-node' : 'cross-node'}`,
      pid: from.pid,
      otherPids: nodes.filter(node => node !== from).map(node => node.pid),
    },
    generator,
  };
}
