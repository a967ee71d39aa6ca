import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer as createTlsServer } from 'node:https';
import { connect, createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { HybridConnectionClient, type RelayOptions } from '../../src/client/client.ts';
import { Routes } from '../../src/client/routes.ts';
import { makeCertificate, type Certificate } from '../support/certificate.ts';
import { startConnectProxy } from '../support/connect-proxy.ts';
import { portOf } from '../cli/port-of.ts';
import { freePort } from '../support/ports.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';
import { openListener, optionsFor } from './implementations.ts';

let certificate: Certificate;
beforeAll(() => {
  certificate = makeCertificate();
  for (const name of ['HTTPS_PROXY', 'HTTP_PROXY', 'ALL_PROXY', 'NO_PROXY']) {
    vi.stubEnv(name, '');
    vi.stubEnv(name.toLowerCase(), '');
  }
});
afterAll(() => {
  vi.unstubAllEnvs();
  certificate[Symbol.dispose]();
});

/** Sends a message and a request there and back. */
async function converse(options: RelayOptions): Promise<void> {
  await using _ = await openListener(options, {
    onConnection: async offer => {
      const connection = await offer.accept();
      for await (const { data } of connection) await connection.send(data);
    },
    onRequest: request => ({ status: 200, body: request.body }),
  });
  const client = new HybridConnectionClient(options);
  const connection = await client.connect();
  await connection.send('through');
  expect(await connection.receive()).toEqual({ isBinary: false, data: 'through' });
  await connection.close();
  const answer = await client.request({ body: 'through, too' });
  expect(await text(answer.body)).toBe('through, too');
}

function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => 'no failure',
    (error: unknown) => error,
  );
}

const startTlsRelay = (): Promise<TestRelay> =>
  startRelay({ tlsCert: certificate.certFile, tlsKey: certificate.keyFile });
const trusted = (relay: TestRelay): RelayOptions =>
  optionsFor(relay, { ca: readFileSync(certificate.certFile) });

describe('a proxy', () => {
  test.each(['without', 'with'] as const)(
    'is used %s TLS to the relay, with credentials',
    async tls => {
      await using relay = await (tls === 'with' ? startTlsRelay() : startRelay());
      await using proxy = await startConnectProxy({ credentials: 'anna:s3cret' });
      await converse({ ...trusted(relay), proxy: proxy.url });
      const target = `127.0.0.1:${relay.port}`;
      expect(proxy.asked.filter(line => line === `CONNECT ${target}`).length).toBeGreaterThan(2);
      const last = tls === 'with' ? `CONNECT ${target}` : `POST http://${target}/hyco`;
      expect(proxy.asked.at(-1)).toBe(last);
    },
  );

  test('may itself speak TLS', async () => {
    await using relay = await startRelay();
    await using proxy = await startConnectProxy({
      server: createTlsServer({
        cert: readFileSync(certificate.certFile),
        key: readFileSync(certificate.keyFile),
      }),
    });
    await converse({ ...trusted(relay), proxy: `https://localhost:${proxy.port}` });
    expect(proxy.asked.length).toBeGreaterThan(3);
  });

  test.each([
    ['no credentials', (url: string) => url.replace('anna:s3cret@', '')],
    ['wrong credentials', (url: string) => url.replace('s3cret', 'guess')],
  ])(
    'that gets %s is ProxyRefused, and the text says what to do but no password',
    async (_, change) => {
      await using relay = await startRelay();
      await using proxy = await startConnectProxy({ credentials: 'anna:s3cret' });
      const client = new HybridConnectionClient(optionsFor(relay, { proxy: change(proxy.url) }));
      for (const attempt of [client.connect(), client.request(), client.request({ body: 'x' })]) {
        const error = await failureOf(attempt);
        expect(error).toMatchObject({ code: 'ProxyRefused', status: 407, isTransient: false });
        expect(String(error)).toMatch(`the proxy 127.0.0.1:${proxy.port} answered 407`);
        expect(String(error)).toMatch(/give credentials/);
        expect(String(error)).not.toMatch(/anna|guess|s3cret/);
      }
    },
  );

  test('that does not let us through is ProxyRefused with its own words', async () => {
    await using relay = await startRelay();
    await using proxy = await startConnectProxy({ refusal: '403 Blocked by policy' });
    const client = new HybridConnectionClient(optionsFor(relay, { proxy: proxy.url }));
    const error = await failureOf(client.connect());
    expect(error).toMatchObject({ code: 'ProxyRefused', status: 403, reason: 'Blocked by policy' });
    expect(String(error)).toMatch(`ask for 127.0.0.1:${relay.port} to be allowed`);
  });

  test('that is not there is ConnectionFailed and named', async () => {
    await using relay = await startRelay();
    const port = await freePort();
    const proxy = `http://127.0.0.1:${port}`;
    const client = new HybridConnectionClient(optionsFor(relay, { proxy }));
    const error = await failureOf(client.connect());
    expect(error).toMatchObject({ code: 'ConnectionFailed', isTransient: true });
    expect(String(error)).toMatch(`the proxy 127.0.0.1:${port}: nothing listens there`);
  });

  test("keeps the relay's refusals apart from a listener's answers", async () => {
    await using relay = await startRelay();
    await using proxy = await startConnectProxy();
    const client = new HybridConnectionClient(optionsFor(relay, { proxy: proxy.url }));
    expect(await failureOf(client.request())).toMatchObject({ code: 'EndpointNotFound' });
    await using _ = await openListener(optionsFor(relay), {
      onRequest: () => ({ status: 404, reason: 'Not here' }),
    });
    expect(await client.request()).toMatchObject({ status: 404, reason: 'Not here' });
  });
});

function proxyFor(url: string, options = {}): string | undefined {
  return new Routes(options).proxyFor(new URL(url))?.href;
}

describe('Routes.proxyFor()', () => {
  afterEach(() => {
    for (const name of ['HTTPS_PROXY', 'HTTP_PROXY', 'ALL_PROXY', 'NO_PROXY']) vi.stubEnv(name, '');
  });

  test.each([
    ['HTTPS_PROXY', 'https://relay.example:9443/', 'http://secure:1/'],
    ['HTTPS_PROXY', 'wss://relay.example/', 'http://secure:1/'],
    ['HTTP_PROXY', 'http://relay.example/', 'http://plain:2/'],
    ['HTTP_PROXY', 'ws://relay.example/', 'http://plain:2/'],
  ])('takes %s for %s', (_variable, url, expected) => {
    vi.stubEnv('HTTPS_PROXY', 'http://secure:1');
    vi.stubEnv('HTTP_PROXY', 'http://plain:2');
    expect(proxyFor(url)).toBe(expected);
  });

  test('takes ALL_PROXY where there is no other, and heeds NO_PROXY', () => {
    vi.stubEnv('ALL_PROXY', 'http://all:3');
    vi.stubEnv('NO_PROXY', '.inner.example,exact.example:444');
    expect(proxyFor('https://relay.example/')).toBe('http://all:3/');
    expect(proxyFor('https://a.inner.example/')).toBeUndefined();
    expect(proxyFor('https://exact.example:444/')).toBeUndefined();
    expect(proxyFor('https://exact.example/')).toBe('http://all:3/');
  });

  test('takes a value without a scheme for an http:// proxy', () => {
    vi.stubEnv('HTTPS_PROXY', 'anna:pw@bare:3128');
    expect(proxyFor('https://relay.example/')).toBe('http://anna:pw@bare:3128/');
  });

  test.each(['http://localhost:9000/', 'http://127.0.0.1/', 'http://[::1]:80/'])(
    'asks no proxy of the environment for %s, but one that was given',
    url => {
      vi.stubEnv('HTTP_PROXY', 'http://plain:2');
      expect(proxyFor(url)).toBeUndefined();
      expect(proxyFor(url, { proxy: 'http://given:4' })).toBe('http://given:4/');
    },
  );

  test('asks none at all when told so', () => {
    vi.stubEnv('HTTPS_PROXY', 'http://secure:1');
    expect(proxyFor('https://relay.example/', { proxy: false })).toBeUndefined();
  });

  test('says so when the environment names a proxy of another kind', () => {
    vi.stubEnv('ALL_PROXY', 'socks5://anna:pw@socks:1080');
    let error: unknown;
    try {
      proxyFor('https://relay.example/');
    } catch (why) {
      error = why;
    }
    expect(error).toMatchObject({ code: 'ProxyRefused' });
    expect(String(error)).toMatch(/http:\/\/ or https:\/\/ one, got socks5:/);
    expect(String(error)).not.toMatch(/anna|pw/);
  });

  test('refuses an option that is no URL of a proxy, without repeating it', () => {
    expect(() => new Routes({ proxy: 'http://anna:pw@' })).toThrow(TypeError);
    expect(() => new Routes({ proxy: 'http://anna:pw@' })).not.toThrow(/anna|pw/);
  });
});

describe('TLS', () => {
  test('works with a certificate authority of its own', async () => {
    await using relay = await startTlsRelay();
    await converse(trusted(relay));
  });

  test('a certificate that nobody vouches for is TlsFailed, in words', async () => {
    await using relay = await startTlsRelay();
    const client = new HybridConnectionClient(optionsFor(relay));
    for (const error of await Promise.all([client.connect(), client.request()].map(failureOf))) {
      expect(error).toMatchObject({ code: 'TlsFailed', isTransient: false });
      expect(String(error)).toMatch(/certificate is self-signed; .*`ca`/);
    }
  });

  test('a certificate for another name is TlsFailed, behind a proxy too', async () => {
    await using relay = await startTlsRelay();
    await using proxy = await startConnectProxy();
    // The certificate is for 127.0.0.1 and localhost.
    const elsewhere = createServer(near => {
      const far = connect(relay.port, '127.0.0.1');
      near.pipe(far).pipe(near);
      for (const socket of [near, far]) socket.on('error', () => void socket.destroy());
    }).listen(0, '127.0.0.2');
    await once(elsewhere, 'listening');
    const endpoint = `https://127.0.0.2:${portOf(elsewhere)}`;
    for (const way of [{ proxy: false as const }, { proxy: `http://localhost:${proxy.port}` }]) {
      const client = new HybridConnectionClient({
        endpoint,
        path: 'hyco',
        transport: 'websocket',
        ca: readFileSync(certificate.certFile),
        ...way,
      });
      const error = await failureOf(client.connect());
      expect(error).toMatchObject({ code: 'TlsFailed' });
      expect(String(error)).toMatch(/for another name/);
    }
    elsewhere.close();
  });

  test('a port that speaks none is TlsFailed; one that speaks it, asked without, is told, too', async () => {
    await using plain = await startRelay();
    const client = new HybridConnectionClient({
      endpoint: `https://127.0.0.1:${plain.port}`,
      path: 'hyco',
      transport: 'websocket',
    });
    const error = await failureOf(client.connect());
    expect(error).toMatchObject({ code: 'TlsFailed' });
    expect(String(error)).toMatch(/speaks no TLS/);
    await using relay = await startTlsRelay();
    const without = new HybridConnectionClient({
      endpoint: `http://127.0.0.1:${relay.port}`,
      path: 'hyco',
      transport: 'websocket',
    });
    expect(await failureOf(without.connect())).toMatchObject({
      code: expect.stringMatching(/ConnectionFailed|ProtocolError/),
    });
  });
});
