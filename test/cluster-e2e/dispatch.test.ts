import { join } from 'node:path';
import { expect, test } from 'vitest';
import { fixedToken, HybridConnectionListener } from '../../src/client/client.ts';
import { startProcesses } from '../support/cluster-processes.ts';
import { startCluster } from '../support/cluster.ts';
import { API_TOKEN } from '../support/dispatch-process.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import {
  connectionTo,
  RelayMachine,
  RestCaller,
  startRun,
  stateOf,
} from '../support/relay-machine.ts';
import type { TestRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

const DURABLE = ['--appendonly', 'yes', '--appendfsync', 'always'];

async function dispatchingCluster(redis: TestRedis) {
  const nodes = await startCluster({
    redisUrl: redis.url,
    options: { dispatch: true, apiToken: API_TOKEN },
  });
  const callers = nodes.nodes.map(({ httpUrl }) => new RestCaller(httpUrl, API_TOKEN));
  const [admin] = callers;
  if (admin === undefined) throw new Error('There are three');
  await admin.get('POST', '/environments', { id: 'dev' });
  return { nodes, admin, callers };
}

function nodeAt(nodes: readonly TestRelay[], index: number): TestRelay {
  const node = nodes[index];
  if (node === undefined) throw new Error('There are three');
  return node;
}

async function offered(node: TestRelay): Promise<number> {
  return node.metric('halfway_dispatch_offers_total{outcome="accepted"}');
}

test('whichever node dispatches reaches a machine whose listener is on another one', async () => {
  await using redis = await startRedis(DURABLE);
  const { nodes, admin, callers } = await dispatchingCluster(redis);
  await using _ = nodes;
  await using machine = await RelayMachine.register(admin);
  const last = nodeAt(nodes.nodes, 2);
  await machine.connect(last.httpUrl);
  const connectionId = await connectionTo(admin, machine.id);
  const others = async (): Promise<number> => {
    const counts = await Promise.all(nodes.nodes.slice(0, 2).map(offered));
    return counts.reduce((sum, count) => sum + count, 0);
  };
  const runs: string[] = [];
  // Who is first to claim a run is chance.
  await until(
    'a node without the listener has dispatched',
    async () => {
      const runId = await startRun(callers[runs.length % 3] ?? admin, connectionId);
      runs.push(runId);
      await until('it is over', async () => (await stateOf(admin, runId)) === 'Succeeded');
      return (await others()) > 0;
    },
    60_000,
  );
  expect(machine.offers.map(({ runId }) => runId)).toEqual(runs);
  const ready: unknown = await (await fetch(`${last.adminUrl}/readyz`)).json();
  expect(ready).toMatchObject({ status: 'ready', reasons: [] });
  expect(await last.metric('halfway_dispatch_records_durable')).toBe(1);
});

test('a draining node dispatches nothing, and others do', async () => {
  await using redis = await startRedis(DURABLE);
  const { nodes, callers } = await dispatchingCluster(redis);
  await using _ = nodes;
  const [first, second] = nodes.nodes;
  const admin = callers[1];
  if (first === undefined || second === undefined || admin === undefined) throw new Error('three');
  await using machine = await RelayMachine.register(admin);
  await machine.connect(second.httpUrl);
  const connectionId = await connectionTo(admin, machine.id);
  const before = await offered(first);
  const drained = first.server.drain();
  for (let count = 0; count < 5; count += 1) {
    const runId = await startRun(admin, connectionId);
    await until('it is over', async () => (await stateOf(admin, runId)) === 'Succeeded');
  }
  const after = await offered(first).catch(() => before);
  expect(after).toBe(before);
  await drained;
});

test('a newer listener of a machine takes the place of the older one, on whichever node', async () => {
  await using redis = await startRedis(DURABLE);
  const { nodes, admin } = await dispatchingCluster(redis);
  await using _ = nodes;
  await using machine = await RelayMachine.register(admin);
  await machine.connect(nodeAt(nodes.nodes, 0).httpUrl);
  const { listenToken } = await machine.tokens(nodeAt(nodes.nodes, 0).httpUrl);
  let previous = machine.listener;
  // To another node, to a third, and there once more.
  for (const index of [1, 2, 2]) {
    const replaced = new Promise<string>(resolve => {
      previous.on('offline', why => resolve(why.message));
    });
    const asked: number[] = [];
    const newer = new HybridConnectionListener(
      {
        endpoint: nodeAt(nodes.nodes, index).httpUrl,
        path: machine.path,
        tokenProvider: fixedToken(listenToken),
      },
      {
        onRequest: () => {
          asked.push(index);
          return { status: 200 };
        },
      },
    );
    await newer.open();
    expect(await replaced).toContain('1008 A newer listener has taken the place of this one');
    // It would come back, and replace the newer one.
    await previous.close({ timeoutMs: 0 });
    const echo = await admin.call('POST', `/environments/dev/machines/${machine.id}:echo`, {});
    expect([echo.status, asked]).toEqual([200, [index]]);
    previous = newer;
  }
  await previous.close({ timeoutMs: 0 });
});

test('a Redis that may forget is said to, in what is ready and in metrics', async () => {
  await using redis = await startRedis();
  const { nodes } = await dispatchingCluster(redis);
  await using _ = nodes;
  const node = nodeAt(nodes.nodes, 0);
  const ready = await (await fetch(`${node.adminUrl}/readyz`)).text();
  expect(ready).toMatch(/degraded: dispatch: Redis at .* keeps no append-only file/);
  expect(await node.metric('halfway_dispatch_records_durable')).toBe(0);
  expect(node.log.lines.join('\n')).toContain('records of dispatch can be lost');
});

test('runs outlive the node that had their machine and took them, killed at once', async () => {
  await using redis = await startRedis(DURABLE);
  await using cluster = await startProcesses({
    redisUrl: redis.url,
    settingOf: () => ({
      main: join(import.meta.dirname, '../../src/main.ts'),
      env: {
        NODE_OPTIONS: '--import tsx',
        HALFWAY_API_TOKEN: API_TOKEN,
        HALFWAY_DISPATCH: 'true',
      },
    }),
  });
  const [first, second] = cluster.nodes;
  if (first === undefined || second === undefined) throw new Error('There are three');
  const [one, other] = [first, second].map(({ relay }) => new RestCaller(relay.httpUrl, API_TOKEN));
  if (one === undefined || other === undefined) throw new Error('There are two');
  await one.get('POST', '/environments', { id: 'dev' });
  await using machine = await RelayMachine.register(one);
  machine.work = (started, offer) => started.start(offer);
  await machine.connect(first.relay.httpUrl);
  const connectionId = await connectionTo(one, machine.id);
  const running = await startRun(one, connectionId);
  await until('it has started', async () => (await stateOf(one, running)) === 'Starting');
  const waiting = await startRun(one, connectionId);
  await first.kill();
  await machine.disconnect();
  machine.work = (started, offer) => started.run(offer);
  await machine.connect(second.relay.httpUrl);
  const [offer] = machine.offers;
  if (offer === undefined) throw new Error('It was offered');
  await machine.succeed(offer);
  await until('both are over', async () => {
    const states = [await stateOf(other, running), await stateOf(other, waiting)];
    return states.every(state => state === 'Succeeded');
  });
  expect(machine.offers.map(({ runId }) => runId)).toEqual([running, waiting]);
}, 120_000);

test('runs that were accepted outlive a Redis that is killed, and go on when it is back', async () => {
  await using redis = await startRedis(DURABLE);
  const { nodes, admin } = await dispatchingCluster(redis);
  await using _ = nodes;
  await using machine = await RelayMachine.register(admin);
  const connectionId = await connectionTo(admin, machine.id);
  const runId = await startRun(admin, connectionId);
  await redis.kill();
  await until('requests are refused', async () => {
    const { status, body } = await admin.call('GET', `/environments/dev/runs/${runId}`);
    return status === 503 && body['code'] === 'StoreUnavailable';
  });
  await redis.start();
  await until('records are there again', async () => {
    const { status } = await admin.call('GET', `/environments/dev/runs/${runId}`);
    return status === 200;
  });
  await until('the machine may listen', async () => {
    await machine.disconnect();
    return machine.connect(nodeAt(nodes.nodes, 1).httpUrl).then(
      () => true,
      () => false,
    );
  });
  const isOver = async (): Promise<boolean> => (await stateOf(admin, runId)) === 'Succeeded';
  await until('it is over', isOver, 60_000);
}, 120_000);

test('a node that starts while Redis is away serves job dispatch as soon as it comes', async () => {
  await using redis = await startRedis(DURABLE);
  await redis.kill();
  await using nodes = await startCluster({
    redisUrl: redis.url,
    nodeIds: ['node-a'],
    options: { dispatch: true, apiToken: API_TOKEN },
  });
  const admin = new RestCaller(nodeAt(nodes.nodes, 0).httpUrl, API_TOKEN);
  expect((await admin.call('GET', '/environments')).status).toBe(503);
  await redis.start();
  await until(
    'the first environment is there',
    async () => (await admin.call('GET', '/environments/default')).status === 200,
    20_000,
  );
});
