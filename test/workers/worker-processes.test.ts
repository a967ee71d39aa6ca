// `halfway serve --workers` with real processes, Microsoft's listener and today's `ws` as sender.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import HycoWs from 'hyco-ws';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import WebSocket from 'ws';
import { commandResult } from '../cli/run-command.ts';
import { portOf } from '../cli/port-of.ts';
import { makeCertificate } from '../support/certificate.ts';
import { startRedis } from '../support/redis.ts';
import {
  isAlive,
  runServe,
  secretFile,
  startWorkerRelay,
  type WorkerRelay,
} from '../support/worker-relay.ts';
import { until, within } from '../support/within.ts';

/** So many that both workers get some. */
const LISTENERS = 12;
const SENDERS = 24;
/** A worker starts with a compiler of its own, on a machine that does other things, too. */
const RESTART_MS = 20_000;

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});
afterAll(() => {
  vi.unstubAllEnvs();
});

/** Listeners that echo, on whichever workers the system chose. */
async function listen(relay: WorkerRelay, count = LISTENERS, path = 'hyco'): Promise<void> {
  const listening = Array.from({ length: count }, async () => {
    const server = HycoWs.createRelayedServer(
      { server: `${relay.wsUrl}/$hc/${path}?sb-hc-action=listen`, token: () => relay.token(path) },
      socket => {
        socket.on('message', (data: string) => socket.send(data));
        socket.on('error', () => {});
      },
    );
    server.on('error', () => {});
    closers.push(() => server.close(() => {}));
    await once(server, 'listening');
  });
  await within('the listeners', Promise.all(listening), 10_000);
}

interface Sender {
  readonly socket: WebSocket;
  /** Sends a text and resolves when it has come back. */
  readonly echo: (text: string) => Promise<void>;
}

/** Dials until it is let in: the other worker may hear of a new listener a moment later. */
async function dial(relay: WorkerRelay): Promise<WebSocket> {
  for (let attempt = 1; ; attempt += 1) {
    const socket = new WebSocket(`${relay.wsUrl}/$hc/hyco?sb-hc-action=connect`, {
      headers: { ServiceBusAuthorization: relay.token() },
    });
    closers.push(() => socket.terminate());
    try {
      await within('a sender', once(socket, 'open'));
      return socket;
    } catch (error) {
      if (attempt === 20 || !String(error).includes('404')) throw error;
      await new Promise(resolve => void setTimeout(resolve, 50));
    }
  }
}

async function connect(relay: WorkerRelay): Promise<Sender> {
  const socket = await dial(relay);
  socket.on('error', () => {});
  return {
    socket,
    echo: async text => {
      const echoed = once(socket, 'message');
      socket.send(text);
      const [data]: unknown[] = await within('an echo', echoed);
      expect(String(data)).toBe(text);
    },
  };
}

async function connectMany(relay: WorkerRelay, count = SENDERS): Promise<readonly Sender[]> {
  const senders = await Promise.all(Array.from({ length: count }, () => connect(relay)));
  await Promise.all(senders.map(({ echo }, i) => echo(`text ${i}`)));
  return senders;
}

/** Kills the process of the first worker, once each; true when there is nobody to ask any more. */
async function killNext(relay: WorkerRelay, killed: Set<number>): Promise<boolean> {
  try {
    const [first] = await relay.workers();
    if (first?.pid === undefined || killed.has(first.pid)) return false;
    killed.add(first.pid);
    process.kill(first.pid, 'SIGKILL');
    return false;
  } catch {
    return true;
  }
}

async function pidsOf(relay: WorkerRelay): Promise<readonly number[]> {
  return (await relay.workers()).flatMap(({ pid }) => pid ?? []);
}

test('workers share port and work, pairs cross them, numbers add up; a drain ends it all with 0', async () => {
  await using relay = await startWorkerRelay();
  expect(await (await fetch(`${relay.adminUrl}/readyz`)).json()).toEqual({
    status: 'ready',
    reasons: [],
  });
  await listen(relay);
  const senders = await connectMany(relay);

  const report = await relay.status();
  expect(report).toMatchObject({ node: 'box', listeners: LISTENERS, senders: SENDERS });
  expect(report.hybridConnections).toMatchObject([{ name: 'hyco', pairs: SENDERS }]);
  const workers = report.workers ?? [];
  expect(workers.map(({ node }) => node)).toEqual(['box-1', 'box-2']);
  for (const { listeners, senders: theirs } of workers) {
    expect(listeners).toBeGreaterThan(0);
    expect(theirs).toBeGreaterThan(0);
  }
  expect(report.cluster).toMatchObject({
    coordinator: 'parent',
    coordinatorUp: true,
    listenersHere: LISTENERS,
    listenersElsewhere: 0,
    nodes: [
      { node: 'box-1', link: 'up' },
      { node: 'box-2', link: 'up' },
    ],
  });
  const hyco = 'hybrid_connection="hyco"';
  const success = `halfway_sender_connections_total{${hyco},result="success"}`;
  expect(await relay.metric(success)).toBe(SENDERS);
  expect(await relay.metric(`halfway_active_listeners{${hyco}}`)).toBe(LISTENERS);
  expect(await relay.metric('halfway_rendezvous_duration_seconds_count')).toBe(SENDERS);
  // Workers share a machine: what crosses them is handed over, and no hop is left.
  expect(await relay.metric('halfway_mesh_stream_paths_total{path="handed"}')).toBeGreaterThan(0);
  expect(await relay.metric('halfway_mesh_hops_total')).toBe(0);
  expect(await relay.metric('halfway_cluster_listeners{where="here"}')).toBe(LISTENERS);
  expect(await relay.metric('halfway_workers{state="ready"}')).toBe(2);
  expect(await relay.metric('halfway_ready')).toBe(1);

  const shown = await commandResult(['status', '--admin-url', relay.adminUrl]);
  expect(shown.out).toMatch(/^box: ready\nversion .*\n12 listeners, 24 senders/);
  expect(shown.out).toMatch(/^box-1 +active +127\.0\.0\.1:\d+ +up +(\d+\.\d ms +)?\d+$/m);

  const closes = senders.map(async ({ socket }) => {
    const [code]: unknown[] = await once(socket, 'close');
    return code;
  });
  const pids = await pidsOf(relay);
  const drained = await commandResult(['drain', '--quiet', '--admin-url', relay.adminUrl]);
  expect(drained).toMatchObject({ exitCode: 0, out: 'drained\n' });
  expect(await within('the end', relay.end)).toBe(0);
  expect(new Set(await within('closes', Promise.all(closes)))).toEqual(new Set([1001]));
  expect(pids.filter(isAlive)).toEqual([]);
});

/** So many that some pairs keep to one worker. */
const MANY = 64;

test('a worker that is killed takes its own connections along, and comes back', async () => {
  await using relay = await startWorkerRelay();
  await listen(relay);
  const senders = await connectMany(relay, MANY);
  const success = 'halfway_sender_connections_total{hybrid_connection="hyco",result="success"}';
  expect(await relay.metric(success)).toBe(MANY);
  const [first, second] = await relay.workers();
  process.kill(first?.pid ?? 0, 'SIGKILL');
  const restarted = async (): Promise<boolean> => {
    const [worker] = await relay.workers();
    return worker?.restarts === 1 && worker.ready && worker.pid !== first?.pid;
  };
  const living = (): readonly Sender[] =>
    senders.filter(({ socket }) => socket.readyState === WebSocket.OPEN);
  await until('connections of the dead are closed', () => living().length < MANY);
  // Those stay whose listener, sender and rendezvous are all on the other one: one in eight.
  expect(living().length).toBeGreaterThan(0);
  await until('it is back', restarted, RESTART_MS);
  expect(await (await fetch(`${relay.adminUrl}/readyz`)).json()).toEqual({
    status: 'ready',
    reasons: [],
  });
  const survivors = living();
  expect(survivors.length).toBeGreaterThan(0);
  await Promise.all(survivors.map(({ echo }) => echo('still there')));
  const [, after] = await relay.workers();
  expect(after).toMatchObject({ node: second?.node, pid: second?.pid, restarts: 0 });
  // What the dead had counted is not forgotten.
  expect(await relay.metric(success)).toBeGreaterThanOrEqual(MANY);
  expect(await relay.metric('halfway_worker_restarts_total')).toBe(1);
  const more = await connect(relay);
  await more.echo('new');
});

describe('signals', () => {
  test('SIGTERM drains all workers; a second one ends them at once', async () => {
    await using relay = await startWorkerRelay(['--drain-timeout-ms', '60000']);
    await listen(relay, 1);
    const { socket } = await connect(relay);
    const pids = await pidsOf(relay);
    relay.signal('SIGTERM');
    await until('it is not ready', async () => {
      return (await fetch(`${relay.adminUrl}/readyz`)).status === 503;
    });
    expect(socket.readyState).toBe(WebSocket.OPEN);
    expect(pids.every(isAlive)).toBe(true);
    relay.signal('SIGTERM');
    expect(await within('the end', relay.end)).toBe(1);
    await until('no worker is left', () => !pids.some(isAlive));
  });

  test('workers whose parent is killed leave the port at once, finish what is open, and end', async () => {
    await using relay = await startWorkerRelay(['--drain-timeout-ms', '1000']);
    await listen(relay, 1);
    const sender = await connect(relay);
    const pids = await pidsOf(relay);
    relay.signal('SIGKILL');
    await relay.end;
    await sender.echo('still there');
    await until('nobody listens', async () => {
      return fetch(`http://127.0.0.1:${relay.port}/$healthz`).then(
        () => false,
        () => true,
      );
    });
    await until('no worker is left', () => !pids.some(isAlive), 10_000);
  });

  test('workers that die again and again end the parent with 1 and a reason', async () => {
    await using relay = await startWorkerRelay();
    const survivor = (await relay.workers())[1]?.pid ?? 0;
    const killed = new Set<number>();
    const killing = until('the end', () => killNext(relay, killed), RESTART_MS);
    expect(await within('the end', relay.end, RESTART_MS)).toBe(1);
    await killing;
    expect(relay.output()).toContain('Worker box-1 ended 5 times in a row (last: SIGKILL)');
    await until('no worker is left', () => !isAlive(survivor));
  });
});

test('a port that another program has is refused', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const run = runServe(['--port', String(portOf(other)), '--admin-port', '0', '--workers', '2']);
  expect(await within('the end', run.end, RESTART_MS)).toBe(1);
  expect(run.output()).toContain('Cannot open the public port');
  other.close();
});

test('what is changed through the admin port is served by all workers, and kept in --data', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-workers-data-'));
  await using relay = await startWorkerRelay(['--data', folder]);
  const made = await commandResult(['hyco', 'create', 'made', '--admin-url', relay.adminUrl]);
  expect(made).toMatchObject({ exitCode: 0, err: '' });
  await until('all serve it', async () => {
    const rows = (await relay.status()).hybridConnections;
    return rows.some(({ name }) => name === 'made');
  });
  await listen(relay, LISTENERS, 'made');
  const [first] = await relay.workers();
  process.kill(first?.pid ?? 0, 'SIGKILL');
  await until(
    'it is back',
    async () => {
      const [worker] = await relay.workers();
      return worker?.ready === true && worker.pid !== first?.pid;
    },
    RESTART_MS,
  );
  await listen(relay, 8, 'made');
  expect((await relay.workers()).every(({ listeners }) => (listeners ?? 0) > 0)).toBe(true);
  rmSync(folder, { recursive: true });
});

test('TLS connections are dealt out by the parent in turn', async () => {
  using certificate = makeCertificate();
  // Microsoft's package has no option for certificates.
  vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
  const { certFile, keyFile } = certificate;
  await using relay = await startWorkerRelay(['--tls-cert', certFile, '--tls-key', keyFile]);
  expect(relay.wsUrl).toMatch(/^wss:/);
  await listen(relay, 4);
  expect((await relay.workers()).map(({ listeners }) => listeners)).toEqual([2, 2]);
  const senders = await Promise.all(Array.from({ length: 6 }, () => connect(relay)));
  await Promise.all(senders.map(({ echo }) => echo('x'.repeat(100_000))));
  relay.signal('SIGHUP');
  await until('certificates are read again', () =>
    relay.output().includes('certificates reloaded'),
  );
});

test('with Redis each worker is a member of the larger cluster', async () => {
  await using redis = await startRedis();
  const secret = ['--mesh-secret-file', secretFile(), '--mesh-host', '127.0.0.1'];
  const argv = ['--redis', redis.url, ...secret, '--mesh-port', '0'];
  await using first = await startWorkerRelay(argv);
  await using second = await startWorkerRelay([...argv, '--node-id', 'other']);
  await until('all are linked', async () => {
    const { nodes = [] } = (await first.status()).cluster ?? {};
    return nodes.length === 4 && nodes.every(({ link }) => link === 'up');
  });
  const { cluster } = await first.status();
  expect(cluster?.coordinator).toBe('redis');
  expect(cluster?.nodes.map(({ node }) => node)).toEqual(['box-1', 'box-2', 'other-1', 'other-2']);
  await listen(first, 2);
  await until('the other machine knows', async () => {
    const series = 'halfway_cluster_listeners{where="elsewhere"}';
    return (await second.metric(series)) === 2;
  });
  const senders = await Promise.all(Array.from({ length: 6 }, () => connect(second)));
  await Promise.all(senders.map(({ echo }) => echo('across')));
  expect((await second.status()).senders).toBe(6);
});
