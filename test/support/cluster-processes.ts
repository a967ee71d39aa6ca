import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { CLUSTER_SECRET, NODE_IDS, untilWhole } from './cluster.ts';
import { freePort } from './ports.ts';
import { MemoryLog, NAMESPACE, relayAt, type TestRelay } from './relay.ts';
import { until, within } from './within.ts';

/** The built program, as operators run it. `npm test` builds dist/ before. */
const MAIN = join(import.meta.dirname, '../../dist/main.js');

/** What a node is besides its options. */
export interface NodeSetting {
  /** Another build's `main.js`. */
  readonly main?: string;
  /** Further variables of its environment. */
  readonly env?: Readonly<Record<string, string>>;
}

const START_MS = 30_000;
/** Times of a drain that a test can wait for. */
const DRAIN_DELAY_MS = 2_000;
const DRAIN_TIMEOUT_MS = 4_000;

/** A node in a process of its own. Its ports stay the same when it is started again. */
export interface NodeProcess {
  readonly nodeId: string;
  readonly port: number;
  readonly meshPort: number;
  /** As a client sees one that dials this node and no other. */
  readonly relay: TestRelay;
  /** What it has written, over all its lives: one line of JSON each. */
  readonly lines: readonly string[];
  readonly isRunning: boolean;
  /** Starts it, with options and a setting that hold for this life; resolves when its ports accept. */
  start(options?: NodeOptions, setting?: NodeSetting): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  freeze(): void;
  thaw(): void;
  /** SIGTERM; resolves with its exit code when it has drained. */
  drain(): Promise<number | undefined>;
  /** Exit code of a life that ends by itself. */
  exited(patienceMs?: number): Promise<number | undefined>;
  /** Waits for a log line with this text. */
  said(text: string, patienceMs?: number): Promise<void>;
}

/** Options by their names in config/options.ts; `meshSecret` in place of the cluster's. */
export type NodeOptions = Readonly<Record<string, string>>;

export interface ProcessCluster extends AsyncDisposable {
  readonly nodes: readonly NodeProcess[];
  /** A further node, not started. */
  add(nodeId: string, options?: NodeOptions, setting?: NodeSetting): Promise<NodeProcess>;
}

export interface ProcessClusterOptions {
  readonly redisUrl: string;
  readonly nodeIds?: readonly string[];
  /** Options of all nodes. */
  readonly options?: NodeOptions;
  /** Options of one node. */
  readonly optionsOf?: (
    nodeId: string,
    ports: { readonly meshPort: number },
  ) => Promise<NodeOptions>;
  readonly settingOf?: (nodeId: string) => NodeSetting;
}

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Starts `halfway serve` for each node and waits until all are linked. */
export async function startProcesses(options: ProcessClusterOptions): Promise<ProcessCluster> {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-cluster-'));
  const nodes: NodeProcess[] = [];
  const add = async (
    nodeId: string,
    own: NodeOptions = {},
    setting = options.settingOf?.(nodeId) ?? {},
  ): Promise<NodeProcess> => {
    const meshPort = await freePort();
    const special = (await options.optionsOf?.(nodeId, { meshPort })) ?? {};
    const ports = { port: await freePort(), adminPort: await freePort(), meshPort };
    const all = { redis: options.redisUrl, ...options.options, ...special, ...own };
    const node = nodeProcess(nodeId, folder, ports, all, setting);
    nodes.push(node);
    return node;
  };
  writeFileSync(join(folder, 'relay.json'), JSON.stringify({ namespaces: [namespace()] }));
  writeFileSync(join(folder, 'mesh.secret'), CLUSTER_SECRET);
  for (const nodeId of options.nodeIds ?? NODE_IDS) await add(nodeId);
  await Promise.all(nodes.map(async node => node.start()));
  await untilWhole(nodes.map(node => node.relay));
  return {
    nodes,
    add,
    async [Symbol.asyncDispose]() {
      await Promise.all(nodes.map(async node => node.kill()));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function nodeProcess(
  nodeId: string,
  folder: string,
  ports: { readonly port: number; readonly adminPort: number; readonly meshPort: number },
  options: NodeOptions,
  setting: NodeSetting,
): NodeProcess {
  const log = new MemoryLog();
  const { lines } = log;
  let child: ChildProcess | undefined;
  let seen = 0;
  const untilExit = async (patienceMs?: number): Promise<number | undefined> => {
    const one = child;
    if (one === undefined) return undefined;
    if (one.exitCode === null && one.signalCode === null) {
      await within(`the end of ${nodeId}`, once(one, 'exit'), patienceMs);
    }
    return one.exitCode ?? undefined;
  };
  const said = async (text: string, patienceMs?: number): Promise<void> =>
    until(
      `${nodeId} says ${text}`,
      () => lines.slice(seen).some(line => line.includes(text)),
      patienceMs,
    );
  const nodeOf = (): NodeProcess => node;
  const node: NodeProcess = {
    nodeId,
    port: ports.port,
    meshPort: ports.meshPort,
    relay: {
      ...relayAt(ports, { server: notHere(), log }),
      [Symbol.asyncDispose]: async () => nodeOf().kill(),
    },
    lines,
    get isRunning() {
      return child !== undefined && child.exitCode === null && child.signalCode === null;
    },
    async start(own = {}, ownSetting = setting) {
      seen = lines.length;
      const all: NodeOptions = {
        drainDelayMs: `${DRAIN_DELAY_MS}`,
        drainTimeoutMs: `${DRAIN_TIMEOUT_MS}`,
        port: `${ports.port}`,
        adminPort: `${ports.adminPort}`,
        meshPort: `${ports.meshPort}`,
        ...options,
        ...own,
      };
      const { meshSecret, ...flags } = all;
      const started = run(nodeId, folder, flags, { ...ownSetting, meshSecret });
      child = started;
      createInterface({ input: started.stdout }).on('line', line => void lines.push(line));
      createInterface({ input: started.stderr }).on('line', line => void lines.push(line));
      const ended = once(started, 'exit').then(() => {
        throw new Error(`${nodeId} has ended:\n${lines.slice(seen).join('\n')}`);
      });
      await Promise.race([said('"listening"', START_MS), ended]);
      ended.catch(() => {});
    },
    async kill() {
      child?.kill('SIGKILL');
      await untilExit();
    },
    freeze: () => void child?.kill('SIGSTOP'),
    thaw: () => void child?.kill('SIGCONT'),
    async drain() {
      child?.kill('SIGTERM');
      return untilExit(DRAIN_DELAY_MS + DRAIN_TIMEOUT_MS + 10_000);
    },
    exited: untilExit,
    said,
  };
  return node;
}

function run(
  nodeId: string,
  folder: string,
  options: NodeOptions,
  { main = MAIN, env = {}, meshSecret }: NodeSetting & { readonly meshSecret: string | undefined },
) {
  // As on machines of their own, unless the test says otherwise.
  const apart = { host: '127.0.0.1', meshHost: '127.0.0.1', meshLocal: 'off' };
  const flags = Object.entries({ ...apart, ...options }).flatMap(([name, value]) => [
    `--${name.replaceAll(/[A-Z]/g, c => `-${c.toLowerCase()}`)}`,
    value,
  ]);
  const secret =
    meshSecret === undefined
      ? { HALFWAY_MESH_SECRET_FILE: join(folder, 'mesh.secret') }
      : { HALFWAY_MESH_SECRET: meshSecret };
  const config = join(folder, 'relay.json');
  const started = spawn(
    process.execPath,
    [main, 'serve', '--config', config, '--node-id', nodeId, ...flags],
    { env: { PATH: process.env['PATH'], ...secret, ...env }, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  running.add(started);
  started.once('exit', () => running.delete(started));
  // Ends it when this process is killed and can do nothing any more: the watcher's pipe closes.
  const watch = spawn('sh', ['-c', 'cat > /dev/null; kill -9 "$0"', String(started.pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watch.unref();
  started.once('exit', () => watch.kill('SIGKILL'));
  return started;
}

function refuse(): never {
  throw new Error('This node is another process: ask its ports');
}

/** What tests ask of a server in their own process; of another process it cannot be had. */
function notHere(): TestRelay['server'] {
  return {
    port: 0,
    adminPort: 0,
    tls: false,
    drain: refuse,
    stop: refuse,
    reloadCertificates: refuse,
    status: refuse,
  };
}

/** The namespace of all tests, in the words of the config file. */
function namespace() {
  const { hosts: _, ...rest } = NAMESPACE;
  return {
    ...rest,
    hybridConnections: NAMESPACE.hybridConnections.map(
      ({ authorizationRules: _rules, userMetadata: _metadata, ...one }) => one,
    ),
  };
}
