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
import { median, percentilesOf, spread } from '../support/statistics.ts';

const PAIRS = 64;
/** What a pair across nodes is to keep of the messages per CPU second of a pair on one node. */
const KEPT_PERCENT_MIN = 60;

const CELLS = [
  { name: '1 KiB, one at a time', sizeBytes: 1_024, window: 1 },
  { name: '1 KiB, 16 in flight', sizeBytes: 1_024, window: 16 },
  { name: '16 KiB, 4 in flight', sizeBytes: 16_384, window: 4 },
  { name: '64 KiB, 4 in flight', sizeBytes: 65_536, window: 4 },
] as const;

interface Round {
  readonly same: Measurement;
  readonly cross: Measurement;
}

/**
 * CPU per forwarded message, summed over both nodes, of pairs with both ends on one node and of
 * pairs with one end on each. The nodes are the same, the load goes to one kind of pair at a time.
 */
async function run(options: ScenarioOptions): Promise<Result> {
  const leftOut = leftOutWithoutRedis('cross-node');
  if (leftOut !== undefined) return leftOut;
  const rounds = options.isQuick ? 1 : 5;
  const times = options.isQuick
    ? { warmUpMs: 200, windowMs: 1_000 }
    : { warmUpMs: 300, windowMs: 1_500 };
  await using cleanup = new Cleanup();
  options.progress('starting two nodes');
  const { nodes } = await startCluster(2, cleanup);
  const [first, second] = nodes;
  if (first === undefined || second === undefined) throw new Error('Two nodes were started');
  const same = await openPairs({ from: first, to: first, hybridConnection: 'hc0', nodes }, cleanup);
  const cross = await openPairs(
    { from: first, to: second, hybridConnection: 'hc1', nodes },
    cleanup,
  );

  const measured = new Map<string, Round[]>(CELLS.map(cell => [cell.name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const { name, sizeBytes, window } of CELLS) {
      options.progress(`round ${round + 1} of ${rounds}: ${name}`);
      const load = { traffic: 'pingpong', pairs: PAIRS, sizeBytes, window } as const;
      if (round === 0) for (const each of [same, cross]) await check(each, load, 150);
      // Each is first in turn: a load that grows over minutes must not favour one.
      const isSameFirst = round % 2 === 0;
      const earlier = await measure(isSameFirst ? same : cross, load, times);
      const later = await measure(isSameFirst ? cross : same, load, times);
      measured
        .get(name)
        ?.push(isSameFirst ? { same: earlier, cross: later } : { same: later, cross: earlier });
    }
  }
  return {
    scenario: 'cross-node',
    command: 'npm run bench cross-node',
    about: `CPU microseconds of two nodes together per forwarded message, ${PAIRS} pairs; ${PINNING}`,
    columns: [
      'cell',
      'same-node',
      'cross-node',
      'kept %',
      'wanted',
      '± %',
      'same msg/s',
      'cross msg/s',
      'same p99 ms',
      'cross p99 ms',
    ],
    rows: [...measured].map(([name, list]) => rowOf(name, list)),
    notes: [
      `${rounds} rounds of ${times.windowMs} ms for each kind; contents were compared before.`,
      'kept: same-node / cross-node, median of the rounds. Both nodes share a core.',
    ],
  };
}

export const crossNode: Scenario = { name: 'cross-node', run };

function rowOf(name: string, rounds: readonly Round[]): readonly Cell[] {
  const kept = rounds.map(({ same, cross }) => (100 * same.serverUs) / cross.serverUs);
  const medianOf = (value: (round: Round) => number): number => median(rounds.map(value));
  const p99Of = (kind: keyof Round): number => {
    const latencies = rounds.flatMap(round => round[kind].latencies);
    return latencies.length === 0 ? Number.NaN : percentilesOf(latencies).p99Ms;
  };
  return [
    name,
    medianOf(round => round.same.serverUs),
    medianOf(round => round.cross.serverUs),
    median(kept),
    `>= ${KEPT_PERCENT_MIN}`,
    100 * spread(kept),
    medianOf(round => round.same.messagesPerSec),
    medianOf(round => round.cross.messagesPerSec),
    p99Of('same'),
    p99Of('cross'),
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
  const known = await from.metric('halfway_cluster_listeners{where="here"}');
  await to.acceptAll(hybridConnection, generator);
  await untilKnown(nodes, known + 1);
  const ends = {
    dialPair: (_: unknown, id: number) => from.send(hybridConnection, generator, id),
    answeringId: separateAnsweringId,
  };
  await connectPairs(ends, generator, { first: 0, count: PAIRS });
  return {
    subject: {
      name: from === to ? 'same-node' : 'cross-node',
      pid: from.pid,
      otherPids: nodes.filter(node => node !== from).map(node => node.pid),
    },
    generator,
  };
}
