import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { request as requestHttps, type RequestOptions } from 'node:https';
import { createRequire } from 'node:module';
import { describe, expect, test } from 'vitest';
import { listen } from '../support/http-listener.ts';
import { headOf, openRequest, pattern, send } from '../support/http-sender.ts';
import { Inbox } from '../support/inbox.ts';
import { startRelay, type RelayOptions, type TestRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';
import type { HycoHttps, HycoResponse, HycoWs } from './hyco.ts';
import { PROXIES, startProxy, type ProxyName, type RunningProxy } from './proxies.ts';

// The configurations of deploy/, run by the programs they are for, with Microsoft's clients behind and before them.

// The clients have no option for a certificate authority. Each test file is a process of its own.
process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';

const require = createRequire(import.meta.url);
const hycoWs: HycoWs = require('hyco-ws');
const hycoHttps: HycoHttps = require('hyco-https');

/** The proxies of these tests connect from there; clients that want to be told apart from elsewhere in 127/8. */
const TRUST_THE_PROXY = { trustedProxies: '127.0.0.1/32' };

describe.each(PROXIES)('behind %s as shipped', name => {
  test('hyco-ws listens, connects, and gets text and a large message back', async () => {
    await using setup = await startBehind(name, TRUST_THE_PROXY);
    const { wsUrl } = setup.relay;
    const token = setup.relay.token();
    const server = hycoWs.createRelayedServer(
      { server: `${wsUrl}/$hc/hyco?sb-hc-action=listen`, token },
      socket => {
        socket.on('message', data => socket.send(data));
      },
    );
    await within('listening', once(server, 'listening'));
    const client = hycoWs.relayedConnect(`${wsUrl}/$hc/hyco?sb-hc-action=connect`, token);
    await within('open', once(client, 'open'));

    for (const data of ['a text', pattern(1_048_576)]) {
      const echoed = once(client, 'message');
      client.send(data);
      const back: string | Uint8Array = (await within('the echo', echoed))[0];
      expect(typeof back).toBe(typeof data);
      expect(Buffer.from(back).equals(Buffer.from(data))).toBe(true);
    }
    const closed = Promise.all([once(client, 'close'), once(server, 'close')]);
    client.close();
    server.close();
    await within('the end', closed);
  });

  test('hyco-https answers a request whose body goes by rendezvous', async () => {
    await using setup = await startBehind(name, TRUST_THE_PROXY);
    await using server = await serveHttps(setup.relay, (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        response.writeHead(201, 'Made here', { 'X-Answer': 'yes' });
        response.end(Buffer.concat(chunks));
      });
    });
    const body = pattern(200_000);
    const answer = await send(setup.relay, '/hyco/things?x=1', { method: 'POST', body });
    expect(answer).toMatchObject({ status: 201, phrase: 'Made here' });
    expect(answer.body.equals(body)).toBe(true);
    expect(answer.headers['x-answer']).toBe('yes');
    expect(server.requests).toBe(1);
  });

  test('a streamed answer arrives event by event', async () => {
    await using setup = await startBehind(name, TRUST_THE_PROXY);
    const responses = new Inbox<HycoResponse>('a request');
    await using server = await serveHttps(setup.relay, (request, response) => {
      request.resume().on('end', () => responses.put(response));
    });
    // hyco-https keeps small answers back until they end, but on a rendezvous; a large body leads there.
    const request = openRequest(setup.relay, '/hyco/events', { method: 'POST' });
    const answered = headOf(request);
    request.end(pattern(100_000));
    const response = await responses.next();
    response.writeHead(200, 'OK', { 'Content-Type': 'text/event-stream' });
    response.write('data: 1\n\n');
    const answer = (await within('the head', answered)).setEncoding('utf8');
    // Each event is written only when the one before has come all the way.
    for (const count of [1, 2, 3]) {
      expect((await within(`event ${count}`, once(answer, 'data')))[0]).toBe(`data: ${count}\n\n`);
      if (count < 3) response.write(`data: ${count + 1}\n\n`);
    }
    const ended = within('the end', once(answer.resume(), 'end'));
    response.end();
    await ended;
    expect(server.requests).toBe(1);
  });

  test('a listener is told the client behind the proxy, and to dial the proxy', async () => {
    await using setup = await startBehind(name, TRUST_THE_PROXY);
    await using listener = await listen(setup.relay);
    const { answer } = requestFrom('127.0.0.2', setup.relay, { 'X-Forwarded-For': '9.9.9.9' });
    const received = await listener.next();
    expect(received.remoteEndpoint?.address).toBe('127.0.0.2');
    expect(received.address).toMatch(new RegExp(`^wss://127\\.0\\.0\\.1:${setup.proxy.port}/`));
    listener.answer(received);
    expect((await answer).statusCode).toBe(200);
  });

  test('what a proxy says that is not trusted is not believed', async () => {
    await using setup = await startBehind(name, { trustedProxies: '192.0.2.0/24' });
    await using listener = await listen(setup.relay);
    const { answer } = requestFrom('127.0.0.2', setup.relay, {});
    const received = await listener.next();
    expect(received.remoteEndpoint?.address).toBe('127.0.0.1');
    expect(received.address).toMatch(/^ws:/);
    listener.answer(received);
    await answer;
  });

  test('with a public URL, listeners dial that', async () => {
    await using setup = await startBehind(name, { publicUrl: 'https://relay.example.com' });
    await using listener = await listen(setup.relay);
    const { answer } = requestFrom('127.0.0.2', setup.relay, {});
    const received = await listener.next();
    expect(received.address).toMatch(/^wss:\/\/relay\.example\.com\//);
    listener.answer(received);
    await answer;
  });

  test('a refusal keeps its reason phrase', async () => {
    await using setup = await startBehind(name, {});
    const refused = await send(setup.relay, '/hyco', { token: null });
    expect(refused.status).toBe(401);
    expect(refused.phrase).toMatch(/^MissingToken: .+ TrackingId:[\da-f-]{36}/);
  });

  test('30 kB of headers reach the listener, with an underscore in a name', async () => {
    await using setup = await startBehind(name, {});
    await using listener = await listen(setup.relay);
    const long = 'x'.repeat(30_000);
    const answer = send(setup.relay, '/hyco', { headers: { 'X-Long': long, x_under: 'score' } });
    const received = await listener.next();
    const headers = Object.fromEntries(
      Object.entries(received.requestHeaders).map(([key, value]) => [key.toLowerCase(), value]),
    );
    expect(headers).toMatchObject({ 'x-long': long, x_under: 'score' });
    listener.answer(received);
    expect((await answer).status).toBe(200);
  });
});

test('HAProxy sees that a relay drains before its port closes, and asks it for nothing more', async () => {
  await using setup = await startBehind('haproxy', { drainDelayMs: 3_000, drainTimeoutMs: 100 });
  const { metricsUrl = '' } = setup.proxy;
  const checkSays = async (state: string): Promise<boolean> => {
    const text = await (await fetch(metricsUrl)).text();
    const series = `haproxy_server_check_status{proxy="nodes",server="node",state="${state}"}`;
    return text.split('\n').includes(`${series} 1`);
  };
  await until('the check succeeds', async () => checkSays('L7OK'));
  const direct = `http://127.0.0.1:${setup.relayPort}/$healthz`;

  const drained = setup.relay.server.drain();
  await until('the check fails', async () => checkSays('L7STS'));
  const answerIs = async (status: number): Promise<boolean> =>
    (await send(setup.relay, '/hyco', { token: null })).status === status;
  await until('HAProxy answers by itself', async () => answerIs(503));
  expect((await fetch(direct)).status).toBe(200);
  await drained;
});

interface Setup extends AsyncDisposable {
  /** As its clients see it: the addresses are the proxy's. */
  readonly relay: TestRelay;
  readonly relayPort: number;
  readonly proxy: RunningProxy;
}

async function startBehind(name: ProxyName, options: RelayOptions): Promise<Setup> {
  const relay = await startRelay(options);
  const proxy = await startProxy(name, relay.port);
  const authority = `127.0.0.1:${proxy.port}`;
  return {
    relay: {
      ...relay,
      port: proxy.port,
      httpUrl: `https://${authority}`,
      wsUrl: `wss://${authority}`,
    },
    relayPort: relay.port,
    proxy,
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      await relay[Symbol.asyncDispose]();
    },
  };
}

interface HttpsServer extends AsyncDisposable {
  /** How many came so far. */
  readonly requests: number;
}

async function serveHttps(
  relay: TestRelay,
  onRequest: Parameters<HycoHttps['createRelayedServer']>[1],
): Promise<HttpsServer> {
  let requests = 0;
  const server = hycoHttps.createRelayedServer(
    { server: `${relay.wsUrl}/$hc/hyco?sb-hc-action=listen`, token: relay.token() },
    (request, response) => {
      requests += 1;
      onRequest(request, response);
    },
  );
  const listening = once(server, 'listening');
  server.listen();
  await within('listening', listening);
  return {
    get requests() {
      return requests;
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close');
      server.close();
      await within('the end', closed);
    },
  };
}

/** A GET from another address of this machine than the proxy's. */
function requestFrom(
  localAddress: string,
  relay: TestRelay,
  headers: Readonly<Record<string, string>>,
): { readonly answer: Promise<IncomingMessage> } {
  const options: RequestOptions = {
    localAddress,
    headers: { ServiceBusAuthorization: relay.token(), ...headers },
    agent: false,
  };
  const request = requestHttps(`${relay.httpUrl}/hyco`, options);
  const answer = headOf(request).then(head => head.resume());
  request.end();
  return { answer };
}
