import { startCluster, untilKnown } from '../subjects/cluster.ts';
import type { Halfway } from '../subjects/halfway.ts';
import { leftOutWithoutRedis } from '../subjects/redis.ts';
import { Cleanup } from '../support/cleanup.ts';
import { startGenerator } from '../support/generator.ts';
import type { Generator } from '../support/generator.ts';
import { listenPaths, openListeners } from '../support/listeners.ts';
import { Probes } from '../support/probes.ts';
import { PINNING, sleep } from '../support/process.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';
import { median } from '../support/statistics.ts';

const NODES = 3;
/** Hybrid connections of the listeners, `hc0` and on; no multiple of NODES, so that each has some on every node. */
const HYBRID_CONNECTIONS = 391;
/** Behind those. */
const PROBED = ['hc391', 'hc392', 'hc393', 'hc394'] as const;
/** What connects are like before anything happens is measured for this long. */
const CALM_MS = 3_000;
/** A listener that is refused tries the other node after this. */
const RETRY_MS = 250;
const ALL_LISTENING_SEC_MAX = 10;
const GIVE_UP_MS = 60_000;

/** Listeners of a node that is killed dial the others at once, while senders go on connecting. */
async function run(options: ScenarioOptions): Promise<Result> {
  const leftOut = leftOutWithoutRedis('storm');
  if (leftOut !== undefined) return leftOut;
  const count = options.isQuick ? 600 : 3_000;
  const rounds = options.isQuick ? 1 : 3;
  const rows: (readonly Cell[])[] = [];
  const notes: string[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    options.progress(`round ${round} of ${rounds}`);
    const { cells, refusals } = await killOne(count);
    rows.push([`${round}`, ...cells]);
    for (const refusal of refusals) notes.push(`round ${round}: a connect was refused: ${refusal}`);
  }
  return {
    scenario: 'storm',
    command: 'npm run bench storm',
    about: `${count} listeners on ${NODES} nodes, one of which gets SIGKILL; ${PINNING}`,
    columns: [
      'round',
      'listeners lost',
      'all listening s',
      'wanted',
      'nodes know s',
      'dials refused',
      'connects',
      'refused',
      'wanted',
      'calm p50 ms',
      'storm p50 ms',
      'storm/calm',
      'storm max ms',
    ],
    rows,
    notes: [
      ...notes,
      'nodes know: until both surviving nodes know all listeners where they are now, and no others.',
      'connects: from both surviving nodes to listeners on both, from the kill until then;',
      `calm: the same for ${CALM_MS / 1_000} s before it.`,
    ],
  };
}

export const storm: Scenario = { name: 'storm', run };

async function killOne(
  count: number,
): Promise<{ readonly cells: readonly Cell[]; readonly refusals: ReadonlySet<string> }> {
  await using cleanup = new Cleanup();
  const { nodes } = await startCluster(NODES, cleanup);
  const [victim, ...survivors] = nodes;
  if (victim === undefined) throw new Error('Nodes were started');
  const generator = cleanup.use(startGenerator());
  // Probes have a generator of their own: nothing they do waits behind a thousand dials of listeners.
  const prober = cleanup.use(startGenerator());
  const paths = listenPaths(victim, HYBRID_CONNECTIONS);
  await openListeners(generator, nodes, { count, paths });
  for (const [index, name] of PROBED.entries()) {
    await survivors[index % survivors.length]?.acceptAll(name, prober);
  }
  await untilKnown(nodes, count + PROBED.length);

  const lanes = survivors.flatMap(from => PROBED.map(name => ({ from, hybridConnection: name })));
  const probes = new Probes(prober, lanes);
  await sleep(CALM_MS);
  const relisting = relisten(generator, survivors, {
    lost: Array.from({ length: count }, (_, id) => id).filter(id => id % NODES === 0),
    paths,
  });
  const killedMs = performance.now();
  await victim.kill();
  const refusedDials = await relisting;
  const listeningMs = performance.now();
  await untilKnown(survivors, count + PROBED.length);
  const knownMs = performance.now();

  const probed = await probes.stop();
  const calm = probed.filter(each => each.atMs + each.tookMs < killedMs);
  const during = probed.filter(each => each.atMs + each.tookMs >= killedMs);
  const [calmMs, stormMs] = [calm, during].map(list => median(list.map(each => each.tookMs)));
  const refusals = probed.flatMap(({ refusal }) => (refusal === undefined ? [] : [refusal]));
  return {
    cells: [
      Math.ceil(count / NODES),
      (listeningMs - killedMs) / 1_000,
      `<= ${ALL_LISTENING_SEC_MAX}`,
      (knownMs - killedMs) / 1_000,
      refusedDials,
      during.length,
      refusals.length,
      '0',
      calmMs ?? Number.NaN,
      stormMs ?? Number.NaN,
      (stormMs ?? Number.NaN) / (calmMs ?? Number.NaN),
      Math.max(...during.map(each => each.tookMs)),
    ],
    refusals: new Set(refusals),
  };
}

/**
 * Dials each of these listeners again as soon as it is closed, at one surviving node or the other.
 * Resolves when all of them listen, with the number of dials that failed.
 */
function relisten(
  generator: Generator,
  survivors: readonly Halfway[],
  { lost, paths }: { readonly lost: readonly number[]; readonly paths: readonly string[] },
): Promise<number> {
  return new Promise((resolve, reject) => {
    const awaited = new Set(lost);
    const attempts = new Map<number, number>();
    let failed = 0;
    const dial = (id: number): void => {
      const attempt = attempts.get(id) ?? 0;
      attempts.set(id, attempt + 1);
      // Listeners of the victim are every third: consecutive ones go to different nodes.
      const node = survivors[(Math.floor(id / NODES) + attempt) % survivors.length];
      generator.dial(id, node?.port ?? 0, paths[id % paths.length] ?? '');
    };
    const finish = (): void => {
      clearTimeout(timer);
      off();
    };
    const timer = setTimeout(() => {
      finish();
      reject(new Error(`${awaited.size} listeners do not listen after ${GIVE_UP_MS} ms`));
    }, GIVE_UP_MS);
    const off = generator.onEvent(event => {
      if (event.event === 'open') {
        awaited.delete(event.id);
        if (awaited.size > 0) return;
        finish();
        resolve(failed);
      } else if (event.event === 'refused' || event.event === 'closed') {
        if (!awaited.has(event.id)) {
          finish();
          reject(new Error(`A listener of a surviving node was closed: ${JSON.stringify(event)}`));
        } else if (attempts.has(event.id)) {
          failed += 1;
          setTimeout(dial, RETRY_MS, event.id);
        } else {
          dial(event.id);
        }
      }
    });
  });
}
