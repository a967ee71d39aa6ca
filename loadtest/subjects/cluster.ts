import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Cleanup } from '../support/cleanup.ts';
import { sleep } from '../support/process.ts';
import { startHalfway } from './halfway.ts';
import type { Halfway } from './halfway.ts';
import { startRedis } from './redis.ts';
import type { RedisServer } from './redis.ts';

const WHOLE_TIMEOUT_MS = 30_000;
const POLL_MS = 50;

/** Nodes in processes of their own, with a Redis of their own. */
export interface Cluster {
  readonly nodes: readonly Halfway[];
  readonly redis: RedisServer;
}

/**
 * Starts so many nodes and waits until each is linked with all others. `cleanup` ends everything.
 * `extraFlagsOf` a node, by its number from 0.
 */
export async function startCluster(
  count: number,
  cleanup: Cleanup,
  extraFlagsOf: (index: number) => readonly string[] = () => [],
): Promise<Cluster> {
  const redis = cleanup.use(await startRedis());
  const folder = mkdtempSync(join(tmpdir(), 'halfway-cluster-'));
  const secretFile = join(folder, 'mesh.secret');
  writeFileSync(secretFile, randomBytes(24).toString('hex'), { mode: 0o600 });
  cleanup.use({
    [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true }),
  });
  const mesh = ['--mesh-host', '127.0.0.1', '--mesh-port', '0', '--mesh-secret-file', secretFile];
  const flags = ['--redis', redis.url, ...mesh];
  const nodes: Halfway[] = [];
  for (let index = 0; index < count; index += 1) {
    const id = ['--node-id', `node-${index}`];
    const node = await startHalfway([...flags, ...id, ...extraFlagsOf(index)]);
    nodes.push(cleanup.use(node));
  }
  await untilEach('the nodes are linked', nodes, async node => {
    const known = await node.metric('halfway_cluster_nodes');
    const links = await node.metric('halfway_mesh_links{state="up"}');
    return known === count && links === count - 1;
  });
  return { nodes, redis };
}

/** Waits until each of these nodes knows exactly so many listeners, its own and those of others. */
export async function untilKnown(nodes: readonly Halfway[], listeners: number): Promise<void> {
  await untilEach(`all nodes know ${listeners} listeners`, nodes, async node => {
    const here = await node.metric('halfway_cluster_listeners{where="here"}');
    const elsewhere = await node.metric('halfway_cluster_listeners{where="elsewhere"}');
    return here + elsewhere === listeners;
  });
}

async function untilEach(
  what: string,
  nodes: readonly Halfway[],
  holds: (node: Halfway) => Promise<boolean>,
): Promise<void> {
  const untilMs = performance.now() + WHOLE_TIMEOUT_MS;
  for (const node of nodes) {
    while (!(await holds(node))) {
      if (performance.now() > untilMs) throw new Error(`Waited in vain until ${what}`);
      await sleep(POLL_MS);
    }
  }
}
