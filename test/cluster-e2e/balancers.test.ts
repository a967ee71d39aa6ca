// The balancers' configurations for three nodes, run by the programs they are for.
import type { IncomingMessage } from 'node:http';
import { request as requestHttps, type RequestOptions } from 'node:https';
import { describe, expect, test } from 'vitest';
import { dialSender } from '../support/azure-clients.ts';
import {
  CLUSTER_PROXIES,
  startClusterProxy,
  type ClusterProxy,
  type ClusterProxyName,
  type ClusterProxyOptions,
} from '../support/cluster-proxy.ts';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { listen } from '../support/http-listener.ts';
import { headOf, pattern, send } from '../support/http-sender.ts';
import { startRedis } from '../support/redis.ts';
import { relayAt, type RelayOptions, type TestRelay } from '../support/relay.ts';
import { StayingListener } from '../support/staying-listener.ts';
import { until } from '../support/within.ts';

/** The balancers of these tests connect from there; a client that wants to be told apart from elsewhere in 127/8. */
const TRUST_THE_BALANCER = { trustedProxies: '127.0.0.1/32' };

// The clients have no option for a certificate authority. Each test file is a process of its own.
process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';

describe.each(CLUSTER_PROXIES)('three nodes behind %s', name => {
  test('share listeners, senders and requests, whichever node each came to', async () => {
    await using setup = await startBehind(name, TRUST_THE_BALANCER);
    const listeners = Array.from({ length: 6 }, () => new StayingListener(setup.relay));
    try {
      await until('all listen', () => listeners.every(one => one.isListening));
      await until('every node has some', async () => {
        const counts = await Promise.all(
          setup.cluster.nodes.map(async node =>
            node.metric('halfway_cluster_listeners{where="elsewhere"}'),
          ),
        );
        return counts.every(count => count > 0 && count < 6);
      });
      for (let i = 0; i < 12; i += 1) {
        const { status, socket } = await dialSender(setup.relay).answer;
        expect(status).toBe(101);
        socket?.send(`${i}`);
        expect(await socket?.nextText()).toBe(`${i}`);
        await socket?.reset();
      }
      const body = pattern(200_000);
      for (let i = 0; i < 6; i += 1) {
        const answer = await send(setup.relay, '/hyco', { method: 'POST', body });
        expect(answer.status).toBe(200);
      }
      const hops = await Promise.all(
        setup.cluster.nodes.map(async node => node.metric('halfway_mesh_hops_total')),
      );
      for (const count of hops) expect(count).toBeGreaterThan(0);
    } finally {
      await Promise.all(listeners.map(async one => one[Symbol.asyncDispose]()));
    }
  });

  test('tell listeners the client, and to dial the balancer', async () => {
    await using setup = await startBehind(name, TRUST_THE_BALANCER);
    await expectClient(setup, '127.0.0.2');
  });

  test('believe nothing of a balancer that they do not trust', async () => {
    await using setup = await startBehind(name, { trustedProxies: '192.0.2.0/24' });
    await expectClient(setup, '127.0.0.1');
  });
});

test('HAProxy may say by the PROXY protocol who the client is; believed where it is trusted', async () => {
  await using setup = await startBehind('haproxy', TRUST_THE_BALANCER, { proxyProtocol: true });
  await expectClient(setup, '127.0.0.2');
});

test('what the PROXY protocol says is not believed of a balancer that is not trusted', async () => {
  const options = { trustedProxies: '192.0.2.0/24' };
  await using setup = await startBehind('haproxy', options, { proxyProtocol: true });
  await expectClient(setup, '127.0.0.1');
});

test('HAProxy passes over a node that is gone, before its check has noticed', async () => {
  await using setup = await startBehind('haproxy', TRUST_THE_BALANCER);
  await using listener = new StayingListener(setup.cluster.nodes[0] ?? setup.relay);
  await until('it is known to all', async () => {
    const known = await setup.cluster.nodes[2]?.metric(
      'halfway_cluster_listeners{where="elsewhere"}',
    );
    return known === 1;
  });
  await setup.cluster.nodes[1]?.server.stop();
  const answers = await Promise.all(
    Array.from({ length: 9 }, async () => send(setup.relay, '/hyco')),
  );
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
  expect(listener.listens).toBe(1);
});

interface Setup extends AsyncDisposable {
  /** As its clients see it: the addresses are the balancer's. */
  readonly relay: TestRelay;
  readonly cluster: TestCluster;
  readonly proxy: ClusterProxy;
}

async function startBehind(
  name: ClusterProxyName,
  options: RelayOptions,
  proxyOptions: ClusterProxyOptions = {},
): Promise<Setup> {
  const redis = await startRedis(['--maxmemory-policy', 'noeviction']);
  const cluster = await startCluster({ redisUrl: redis.url, options });
  const [first] = cluster.nodes;
  if (first === undefined) throw new Error('A cluster has nodes');
  const ports = cluster.nodes.map(({ port }) => port);
  const proxy = await startClusterProxy(name, ports, proxyOptions);
  return {
    relay: relayAt({ port: proxy.port, adminPort: first.server.adminPort, tls: true }, first),
    cluster,
    proxy,
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      await cluster[Symbol.asyncDispose]();
      await redis[Symbol.asyncDispose]();
    },
  };
}

/** A request from 127.0.0.2 that claims to be from elsewhere is told to its listener as being from `address`. */
async function expectClient({ relay, proxy }: Setup, address: string): Promise<void> {
  await using listener = await listen(relay);
  const { answer } = requestFrom('127.0.0.2', relay);
  const received = await listener.next();
  expect(received.remoteEndpoint?.address).toBe(address);
  const scheme = address === '127.0.0.2' ? 'wss' : 'ws';
  expect(received.address).toMatch(new RegExp(`^${scheme}://127\\.0\\.0\\.1:${proxy.port}/`));
  listener.answer(received);
  expect((await answer).statusCode).toBe(200);
}

/** A GET from another address of this machine than the balancer's. */
function requestFrom(
  localAddress: string,
  relay: TestRelay,
): { readonly answer: Promise<IncomingMessage> } {
  const options: RequestOptions = {
    localAddress,
    headers: { ServiceBusAuthorization: relay.token(), 'X-Forwarded-For': '9.9.9.9' },
    agent: false,
  };
  const request = requestHttps(`${relay.httpUrl}/hyco`, options);
  const answer = headOf(request).then(head => head.resume());
  request.end();
  return { answer };
}
