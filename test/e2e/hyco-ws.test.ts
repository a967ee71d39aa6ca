// Microsoft's own package as listener and as sender, and today's `ws` as sender.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import HycoWs from 'hyco-ws';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import WebSocket from 'ws';
import { formatRenewToken } from '../../src/protocol/control-messages.ts';
import { makeCertificate, type Certificate } from '../support/certificate.ts';
import { DATA_PLANES } from '../support/data-planes.ts';
import { Inbox } from '../support/inbox.ts';
import { ROOT_KEY, startRelay, type RelayOptions, type TestRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';

type HycoSocket = InstanceType<typeof HycoWs>;
type HycoServer = ReturnType<typeof HycoWs.createRelayedServer>;

/** How many a storm dials at once. */
const STORM_DIALS = 16;

let certificate: Certificate;
beforeAll(() => {
  certificate = makeCertificate();
  // The package has no option for certificates.
  vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
});
afterAll(() => {
  vi.unstubAllEnvs();
  certificate[Symbol.dispose]();
});

const servers: HycoServer[] = [];
afterEach(() => {
  // Otherwise it tries again without a pause, for ever.
  for (const server of servers.splice(0)) server.close(() => {});
});

/** Signs as the package does: audience with the port. */
const tokenFor = (relay: TestRelay): string =>
  HycoWs.createRelayToken(`http://127.0.0.1:${relay.port}/hyco`, 'root', ROOT_KEY);

async function listen(
  relay: TestRelay,
  onConnection: (socket: HycoSocket) => void,
  token: string | (() => string) = () => tokenFor(relay),
): Promise<HycoServer> {
  const server = HycoWs.createRelayedServer(
    { server: `${relay.wsUrl}/$hc/hyco?sb-hc-action=listen`, token },
    onConnection,
  );
  servers.push(server);
  await within('the listener', once(server, 'listening'));
  return server;
}

function echo(socket: HycoSocket): void {
  socket.on('message', (data: string | Buffer) => socket.send(data));
}

const connectUrl = (relay: TestRelay): string => `${relay.wsUrl}/$hc/hyco?sb-hc-action=connect`;

async function connect(relay: TestRelay): Promise<HycoSocket> {
  const sender = HycoWs.relayedConnect(connectUrl(relay), tokenFor(relay));
  await within('the sender', once(sender, 'open'));
  return sender;
}

function messagesOf(socket: HycoSocket | WebSocket): Inbox<unknown> {
  const inbox = new Inbox<unknown>('a message');
  socket.on('message', (data: unknown) => inbox.put(data));
  return inbox;
}

async function closeOf(socket: HycoSocket | WebSocket): Promise<[number, string]> {
  const [code, reason]: unknown[] = await within('a close', once(socket, 'close'));
  return [Number(code), String(reason)];
}

const CASES = DATA_PLANES.flatMap(({ dataPlane }) =>
  (['ws', 'wss'] as const).map(scheme => ({ dataPlane, scheme })),
);

describe.each(CASES)('hyco-ws over $scheme on $dataPlane', ({ dataPlane, scheme }) => {
  const start = (options: RelayOptions = {}): Promise<TestRelay> =>
    startRelay(
      scheme === 'ws'
        ? { dataPlane, ...options }
        : { dataPlane, tlsCert: certificate.certFile, tlsKey: certificate.keyFile, ...options },
    );

  test('listener and sender exchange text and binary of many sizes', async () => {
    await using relay = await start();
    await listen(relay, echo);
    const sender = await connect(relay);
    const messages = messagesOf(sender);
    sender.send('grüße');
    expect(await messages.next()).toBe('grüße');
    for (const size of [1, 125, 126, 65_535, 65_536, 65_537, 500_000]) {
      const payload = randomBytes(size);
      sender.send(payload);
      const answer = await messages.next();
      expect(Buffer.isBuffer(answer) && payload.equals(answer), `${size} bytes`).toBe(true);
    }
    sender.close(1000);
    await closeOf(sender);
  });

  test.each(['sender', 'listener'] as const)('the %s closes, and both see its code', async who => {
    await using relay = await start();
    const accepted = new Inbox<HycoSocket>('a connection');
    await listen(relay, socket => accepted.put(socket));
    const sender = await connect(relay);
    const listener = await accepted.next();
    await until('the rendezvous is open', () => listener.readyState === 1);
    const closes = Promise.all([closeOf(sender), closeOf(listener)]);
    (who === 'sender' ? sender : listener).close(4001, 'enough');
    for (const [code, reason] of await closes) expect([code, reason]).toEqual([4001, 'enough']);
    await until('the pair is forgotten', () => relay.server.status().senders === 0);
  });

  test('a side that breaks off shows as an end at the other', async () => {
    await using relay = await start();
    const accepted = new Inbox<HycoSocket>('a connection');
    await listen(relay, socket => accepted.put(socket));
    const sender = await connect(relay);
    const listener = await accepted.next();
    await until('the rendezvous is open', () => listener.readyState === 1);
    const close = closeOf(listener);
    sender.terminate();
    expect([1001, 1006]).toContain((await close)[0]);
    await until('the pair is forgotten', () => relay.server.status().senders === 0);
  });

  test('the sender gets the first of its subprotocols, and so does the listener', async () => {
    await using relay = await start();
    const accepted = new Inbox<HycoSocket>('a connection');
    await listen(relay, socket => accepted.put(socket));
    const sender = new HycoWs(connectUrl(relay), ['chat.v2', 'chat.v1'], {
      headers: { ServiceBusAuthorization: tokenFor(relay) },
    });
    await within('the sender', once(sender, 'open'));
    expect(sender.protocol).toBe('chat.v2');
    expect((await accepted.next()).protocol).toBe('chat.v2');
  });

  test('ws 8 with its offer of compression talks to a hyco-ws listener', async () => {
    await using relay = await start();
    await listen(relay, echo);
    const sender = new WebSocket(connectUrl(relay), ['chat'], {
      headers: { ServiceBusAuthorization: tokenFor(relay) },
      perMessageDeflate: true,
    });
    const messages = messagesOf(sender);
    await within('the sender', once(sender, 'open'));
    expect([sender.protocol, sender.extensions]).toEqual(['chat', '']);
    sender.send('text '.repeat(10_000));
    expect(String(await messages.next())).toBe('text '.repeat(10_000));
    const pong = once(sender, 'pong');
    sender.ping('there?');
    expect(String((await within('a pong', pong))[0])).toBe('there?');
    sender.close(1000, 'bye');
    expect(await closeOf(sender)).toEqual([1000, 'bye']);
  });

  test('twenty senders at once each have their own conversation', async () => {
    await using relay = await start();
    await listen(relay, echo);
    await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        const sender = await connect(relay);
        const messages = messagesOf(sender);
        for (let n = 0; n < 10; n += 1) {
          sender.send(`${i}/${n}`);
          expect(await messages.next()).toBe(`${i}/${n}`);
        }
        sender.close();
        await closeOf(sender);
      }),
    );
    await until('all are forgotten', () => relay.server.status().senders === 0);
  });
});

describe('hyco-ws', () => {
  test('with tokens in the addresses that it makes itself', async () => {
    await using relay = await startRelay();
    const local = (uri: string): string => uri.replace('wss://127.0.0.1:443', relay.wsUrl);
    const token = tokenFor(relay);
    const server = HycoWs.createRelayedServer(
      { server: local(HycoWs.createRelayListenUri('127.0.0.1', 'hyco', token)), token },
      echo,
    );
    servers.push(server);
    await within('the listener', once(server, 'listening'));
    const id = '1c048eb5-77c4-4b85-96fd-fa526801af35';
    const sender = new HycoWs(local(HycoWs.createRelaySendUri('127.0.0.1', 'hyco', token, id)));
    await within('the sender', once(sender, 'open'));
    const messages = messagesOf(sender);
    sender.send('hello');
    expect(await messages.next()).toBe('hello');
    expect(relay.log.lines.join('\n')).toMatch(
      `"SenderListenerConnectionEstablished","hybridConnection":"hyco","trackingId":"${id}"`,
    );
  });

  test('stops listening at once when it wants to', async () => {
    await using relay = await startRelay();
    const server = await listen(relay, echo);
    const closed = once(server, 'close');
    server.close();
    await within('the end of the listener', closed, 2_000);
    expect(relay.server.status().listeners).toBe(0);
  });

  test('renews its token, and comes back by itself when it is refused', async () => {
    await using relay = await startRelay();
    const server = await listen(relay, echo);
    server.controlChannel.send(formatRenewToken(tokenFor(relay)));
    const again = once(server, 'listening');
    server.controlChannel.send(formatRenewToken('garbage'));
    await within('a new control channel', again);
    expect(await relay.metric('halfway_listener_disconnects_total{reason="renewal-refused"}')).toBe(
      1,
    );
    const sender = await connect(relay);
    const messages = messagesOf(sender);
    sender.send('hello');
    expect(await messages.next()).toBe('hello');
  });

  test('storms the relay with a bad token, and others are served meanwhile', async () => {
    await using relay = await startRelay();
    const server = HycoWs.createRelayedServer({
      server: `${relay.wsUrl}/$hc/hyco?sb-hc-action=listen`,
      token: 'garbage',
    });
    // The package dials twice for each refusal, as an error and as an end: without a limit the crowd doubles with
    // every round, in this very process, and who is served when says nothing of the relay. It asks whether it shall
    // dial once this has returned.
    let dialling = 1;
    let isOver = false;
    server.on('error', () => {
      server.closeRequested = isOver || dialling >= STORM_DIALS;
      dialling += server.closeRequested ? -1 : 1;
    });
    onTestFinished(() => {
      isOver = true;
    });
    await until('a storm', () => relay.log.lines.length > 100);
    await listen(relay, echo);
    const sender = await connect(relay);
    const messages = messagesOf(sender);
    sender.send('calm');
    const linesBefore = relay.log.lines.length;
    expect(await messages.next()).toBe('calm');
    await until('the storm goes on', () => relay.log.lines.length > linesBefore + 100);
  });

  test('as a sender is told why it is refused', async () => {
    await using relay = await startRelay();
    const sender = HycoWs.relayedConnect(connectUrl(relay), tokenFor(relay));
    const [error]: unknown[] = await within('a refusal', once(sender, 'error'));
    expect(String(error)).toMatch('404');
  });
});
