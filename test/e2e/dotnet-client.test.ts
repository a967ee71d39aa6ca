// The wire of Microsoft.Azure.Relay for .NET and of azbridge, which is built on it; always wss.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeCertificate, type Certificate } from '../support/certificate.ts';
import { DATA_PLANES } from '../support/data-planes.ts';
import { DotNetError, DotNetListener, dotNetConnect } from '../support/dotnet-client.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

let certificate: Certificate;
beforeAll(() => {
  certificate = makeCertificate();
});
afterAll(() => {
  certificate[Symbol.dispose]();
});

async function pair(relay: TestRelay) {
  const listener = new DotNetListener(relay);
  await listener.open();
  const sender = await dotNetConnect(relay);
  return { listener, sender, accepted: await listener.streams.next() };
}

describe.each(DATA_PLANES)('.NET on $dataPlane', ({ dataPlane, promises }) => {
  const start = (): Promise<TestRelay> =>
    startRelay({ dataPlane, tlsCert: certificate.certFile, tlsKey: certificate.keyFile });

  test('streams cross, whatever their writes were cut into, and never end early', async () => {
    await using relay = await start();
    const { sender, accepted } = await pair(relay);
    for (const size of [1, 1_024, 65_536, 65_537, 1_048_576]) {
      const payload = randomBytes(size);
      sender.write(payload);
      expect((await accepted.readExactly(size)).equals(payload)).toBe(true);
      accepted.write(payload);
      expect((await sender.readExactly(size)).equals(payload)).toBe(true);
    }
  });

  test('both close at once, and one after the other', async () => {
    await using relay = await start();
    const first = await pair(relay);
    await Promise.all([first.sender.close(), first.accepted.close()]);
    const sender = await dotNetConnect(relay);
    const accepted = await first.listener.streams.next();
    const closing = sender.close();
    expect(await accepted.read()).toHaveLength(0);
    await Promise.all([accepted.close(), closing]).catch(error => {
      // The fallback has answered for the listener by then.
      if (promises.has('half-close')) throw error;
    });
    await until('both pairs are forgotten', () => relay.server.status().senders === 0);
  });

  if (promises.has('half-close')) {
    test('after Shutdown the other side goes on, as azbridge needs it for TCP', async () => {
      await using relay = await start();
      const { sender, accepted } = await pair(relay);
      // Preamble: version 1.0, stream mode, name of the port; then its three bytes of answer.
      sender.write(Buffer.from([1, 0, 0, 4]));
      sender.write(Buffer.from('sql1'));
      expect([...(await accepted.readExactly(4))]).toEqual([1, 0, 0, 4]);
      expect(String(await accepted.readExactly(4))).toBe('sql1');
      accepted.write(Buffer.from([1, 0, 0]));
      expect([...(await sender.readExactly(3))]).toEqual([1, 0, 0]);

      sender.write(Buffer.from('request'));
      sender.shutdown();
      expect(String(await accepted.readExactly(7))).toBe('request');
      expect(await accepted.read()).toHaveLength(0);
      const answer = randomBytes(2_000_000);
      for (let at = 0; at < answer.length; at += 16_384) {
        accepted.write(answer.subarray(at, at + 16_384));
      }
      accepted.shutdown();
      expect((await sender.readExactly(answer.length)).equals(answer)).toBe(true);
      expect(await sender.read()).toHaveLength(0);
      await until('the pair is forgotten', () => relay.server.status().senders === 0);
    });
  }

  test('an accept handler sees path, query and headers, and may choose the subprotocol', async () => {
    await using relay = await start();
    const seen: unknown[] = [];
    const listener = new DotNetListener(relay, accept => {
      seen.push([
        accept.target,
        accept.header('x-TENANT'),
        accept.header('ServiceBusAuthorization'),
      ]);
      return { accept: true, protocol: 'v1' };
    });
    await listener.open();
    await dotNetConnect(relay, {
      path: 'hyco/rooms/7',
      query: 'a=1&a=2&sb-hc-undefined&',
      headers: [
        ['X-Tenant', 'blue'],
        ['Sec-WebSocket-Protocol', 'v2, v1'],
      ],
    });
    expect(seen).toEqual([['/hyco/rooms/7?a=1&a=2&sb-hc-undefined&', 'blue', undefined]]);
  });

  test.each([
    ['with nothing more', { accept: false }, 400, 'Rejected by user code'],
    ['with a status', { accept: false, status: 401 }, 401, 'Unauthorized'],
    [
      'with status and words',
      { accept: false, status: 401, description: 'Status Description from test' },
      401,
      'Status Description from test',
    ],
    [
      'by throwing',
      'throws',
      502,
      /^The Listener's custom AcceptHandler threw an exception\. .*TrackingId/,
    ],
  ] as const)('an accept handler says no %s', async (_how, decision, status, reason) => {
    await using relay = await start();
    const listener = new DotNetListener(relay, () => decision);
    await listener.open();
    const error = await dotNetConnect(relay).catch((one: unknown) => one);
    if (!(error instanceof DotNetError)) throw new Error(`Not refused: ${String(error)}`);
    expect(error.status).toBe(status);
    expect(error.message).toMatch(reason);
    expect(await listener.rejections.next()).toBe(410);
  });

  test('an aborted peer ends the stream of the other', async () => {
    await using relay = await start();
    const { sender, accepted } = await pair(relay);
    await accepted.abort();
    const end = await sender.read().catch(() => Buffer.alloc(0));
    expect(end).toHaveLength(0);
    await sender.close().catch(() => {});
    await until('the pair is forgotten', () => relay.server.status().senders === 0);
  });

  test('pongs that nobody asked for keep a stream alive and reach no application', async () => {
    await using relay = await start();
    const { sender, accepted } = await pair(relay);
    sender.keepAlive();
    accepted.keepAlive();
    sender.write(Buffer.from('data'));
    expect(String(await accepted.read())).toBe('data');
  });
});

test('a listener closes with Normal Closure and is answered so', async () => {
  await using relay = await startRelay();
  const listener = new DotNetListener(relay);
  await listener.open();
  await listener.close();
  await until('the listener is gone', () => relay.server.status().listeners === 0);
});

test('what it tells applications: exceptions by status, with the words of the relay', async () => {
  await using relay = await startRelay();
  const error = await dotNetConnect(relay).catch((one: unknown) => one);
  expect(error).toMatchObject({ kind: 'EndpointNotFound', status: 404 });
  expect(String(error)).toMatch(/There are no listeners connected.*TrackingId:.*hyco/);
});

test('a hundred connections at once are each accepted', async () => {
  await using relay = await startRelay();
  const listener = new DotNetListener(relay);
  await listener.open();
  const echo = async (): Promise<void> => {
    const stream = await listener.streams.next();
    stream.write(await stream.read());
  };
  const talk = async (text: string): Promise<void> => {
    const stream = await dotNetConnect(relay);
    stream.write(Buffer.from(text));
    expect(String(await stream.read())).toBe(text);
  };
  const count = 100;
  await Promise.all([
    ...Array.from({ length: count }, echo),
    ...Array.from({ length: count }, (_, i) => talk(`client ${i}`)),
  ]);
});
