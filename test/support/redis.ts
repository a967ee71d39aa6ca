import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Redis } from 'ioredis';
import { freePort } from './ports.ts';
import { until, within } from './within.ts';

/** A real redis-server of its own, without persistence, on a port that was free. */
export interface TestRedis extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  /** For looking and meddling, apart from what is tested. */
  readonly admin: Redis;
  /** Stops the process as a full machine or a debugger does: it answers nothing and closes nothing. */
  freeze(): void;
  thaw(): void;
  /** SIGKILL; returns when it is gone. */
  kill(): Promise<void>;
  /** Starts it again on the same port: empty. */
  start(): Promise<void>;
}

const EPHEMERAL = ['--save', '', '--appendonly', 'no', '--logfile', ''];

/** It reads what it has kept, on a machine that does other things, too. */
const START_MS = 30_000;

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export async function startRedis(
  settings: readonly string[] = [],
  options: {
    readonly port?: number;
    /** Further variables of its environment. */
    readonly env?: Readonly<Record<string, string>>;
  } = {},
): Promise<TestRedis> {
  const port = options.port ?? (await freePort());
  const directory = mkdtempSync(join(tmpdir(), 'halfway-redis-'));
  const place = ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory];
  const args = [...place, ...EPHEMERAL, ...settings];
  const start = async (): Promise<ChildProcess> =>
    run(args, undefined, { ...process.env, ...options.env });
  let child = await start();
  const admin = new Redis({ port, host: '127.0.0.1', lazyConnect: true, protocol: 2 });
  admin.on('error', () => undefined);
  return {
    port,
    admin,
    url: `redis://127.0.0.1:${port}`,
    freeze: () => void child.kill('SIGSTOP'),
    thaw: () => void child.kill('SIGCONT'),
    kill: () => end(child),
    start: async () => {
      child = await start();
    },
    [Symbol.asyncDispose]: async () => {
      admin.disconnect();
      await end(child);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** A master, a replica and a Sentinel that fails over after half a second. */
export async function startSentinel(): Promise<
  AsyncDisposable & {
    readonly master: TestRedis;
    readonly replica: TestRedis;
    readonly url: string;
  }
> {
  const master = await startRedis(['--repl-diskless-sync-delay', '0']);
  const replica = await startRedis(['--replicaof', '127.0.0.1', String(master.port)]);
  await until('the replica has its master', async () => {
    return (await replica.admin.info('replication')).includes('master_link_status:up');
  });
  const port = await freePort();
  const directory = mkdtempSync(join(tmpdir(), 'halfway-sentinel-'));
  const file = join(directory, 'sentinel.conf');
  writeFileSync(
    file,
    [
      `port ${port}`,
      'bind 127.0.0.1',
      `dir ${directory}`,
      `sentinel monitor tests 127.0.0.1 ${master.port} 1`,
      'sentinel down-after-milliseconds tests 500',
      'sentinel failover-timeout tests 2000',
    ].join('\n'),
  );
  const child = await run([file, '--sentinel'], 'Sentinel ID is');
  const sentinel = new Redis({ port, host: '127.0.0.1', protocol: 2 });
  await until('the Sentinel knows the replica', async () => {
    const replicas = await sentinel.call('SENTINEL', ['REPLICAS', 'tests']);
    return Array.isArray(replicas) && replicas.length === 1;
  });
  sentinel.disconnect();
  return {
    master,
    replica,
    url: `redis+sentinel://127.0.0.1:${port}/tests`,
    [Symbol.asyncDispose]: async () => {
      await end(child);
      await replica[Symbol.asyncDispose]();
      await master[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Three nodes that share the slots. */
export async function startRedisCluster(): Promise<
  AsyncDisposable & { readonly nodes: readonly TestRedis[]; readonly url: string }
> {
  // Nodes that a busy machine keeps waiting for longer than that take one another for dead, and serve nobody.
  const settings = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '5000'];
  // The bus has its port too, 10000 above unless told otherwise, which may be taken or too high.
  const nodes = await Promise.all(
    [0, 1, 2].map(async () => {
      const busPort = String(await freePort());
      return startRedis([...settings, '--cluster-port', busPort]);
    }),
  );
  const [first] = nodes;
  const slots = [
    [0, 5460],
    [5461, 10_922],
    [10_923, 16_383],
  ];
  for (const [i, node] of nodes.entries()) {
    await node.admin.call('CLUSTER', ['ADDSLOTSRANGE', ...(slots[i] ?? [])]);
    const bus = /^\S+ \S+@(\d+)/m.exec(String(await node.admin.call('CLUSTER', ['NODES'])))?.[1];
    if (node !== first) {
      const address = ['127.0.0.1', node.port, bus ?? ''];
      await first?.admin.call('CLUSTER', ['MEET', ...address]);
    }
  }
  await until(
    'the Redis Cluster is whole',
    async () => {
      const states = await Promise.all(nodes.map(node => node.admin.call('CLUSTER', ['INFO'])));
      return states.every(state => {
        return /cluster_state:ok[^]*cluster_known_nodes:3/.test(String(state));
      });
    },
    30_000,
  );
  return {
    nodes,
    url: `redis+cluster://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(',')}`,
    [Symbol.asyncDispose]: async () => {
      for (const node of nodes) await node[Symbol.asyncDispose]();
    },
  };
}

async function run(
  args: readonly string[],
  readyText = 'Ready to accept connections',
  env: NodeJS.ProcessEnv = process.env,
): Promise<ChildProcess> {
  const child = spawn('redis-server', args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  running.add(child);
  endWith(child);
  child.once('exit', () => running.delete(child));
  const lines = createInterface({ input: child.stdout });
  const ready = new Promise<void>((resolve, reject) => {
    const seen: string[] = [];
    lines.on('line', line => {
      seen.push(line);
      if (line.includes(readyText)) resolve();
    });
    child.once('exit', () => reject(new Error(`redis-server ended:\n${seen.join('\n')}`)));
  });
  try {
    await within('redis-server starts', ready, START_MS);
  } catch (error) {
    // Who hears that it has not started has nothing to end it by.
    child.kill('SIGKILL');
    throw error;
  }
  return child;
}

/** Ends it when this process is killed and can do nothing any more: its pipe closes. */
export function endWith(child: ChildProcess): void {
  const script = 'cat > /dev/null; kill -9 "$0"';
  const watch = spawn('sh', ['-c', script, String(child.pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watch.unref();
  child.once('exit', () => watch.kill('SIGKILL'));
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
