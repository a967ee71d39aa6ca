// Why something did not work, as users of the library see it: one code for each cause, over a real relay where it has one.
import { createServer } from 'node:http';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import {
  fixedToken,
  HybridConnectionClient,
  HybridConnectionListener,
  RelayError,
  sharedKeyTokens,
} from '../../src/client/client.ts';
import { portOf } from '../cli/port-of.ts';
import { freePort } from '../support/ports.ts';
import { LISTEN_KEY, SEND_KEY, startRelay } from '../support/relay.ts';
import { within } from '../support/within.ts';
import { openListener, optionsFor } from './implementations.ts';

async function failureOf(promise: Promise<unknown>): Promise<RelayError> {
  const error: unknown = await within(
    'a failure',
    promise.then(
      () => 'no failure',
      (why: unknown) => why,
    ),
  );
  if (error instanceof RelayError) return error;
  throw new Error(`Not a RelayError: ${String(error)}`);
}

const withKey = (keyName: string, key: string) => ({
  tokenProvider: sharedKeyTokens({ keyName, key }),
});

describe('a listener that is refused', () => {
  test.each([
    ['Unauthorized', 401, 'a wrong key', withKey('root', SEND_KEY), /signature.*check the key/],
    ['Forbidden', 403, 'a key without the right', withKey('sender', SEND_KEY), /right Listen/],
    ['EndpointNotFound', 404, 'an unknown name', { path: 'nothing' }, /check the name/],
  ] as const)(
    'gets %s (%i) for %s, and does not try again',
    async (code, status, _why, more, text) => {
      await using relay = await startRelay();
      const listener = new HybridConnectionListener(optionsFor(relay, more), {});
      let retries = 0;
      listener.on('reconnecting', () => void (retries += 1));
      const error = await failureOf(listener.open());
      expect(error).toMatchObject({ code, status, isTransient: false });
      expect(error.message).toMatch(text);
      expect(error.trackingId).toMatch(/^[\da-f-]{36}$/);
      expect([retries, listener.state]).toEqual([0, 'closed']);
    },
  );

  test('for which there is no place goes on trying, since one may become free', async () => {
    await using relay = await startRelay({ listenersMax: 1 });
    const first = await openListener(optionsFor(relay));
    const second = new HybridConnectionListener(optionsFor(relay), {});
    const retry = new Promise<RelayError>(resolve => {
      second.on('reconnecting', ({ why }) => resolve(why));
    });
    const opened = second.open();
    expect(await within('a retry', retry)).toMatchObject({
      code: 'QuotaExceeded',
      status: 403,
      isTransient: true,
    });
    await first.close();
    await within('a place', opened, 20_000);
    await second.close();
  });
});

describe('a sender', () => {
  test.each([
    ['Unauthorized', withKey('sender', LISTEN_KEY)],
    ['Forbidden', withKey('listener', LISTEN_KEY)],
    ['EndpointNotFound', { path: 'nothing' }],
    ['EndpointNotFound', {}],
  ] as const)('is told %s, connecting and requesting', async (code, more) => {
    await using relay = await startRelay();
    const client = new HybridConnectionClient(optionsFor(relay, more));
    const attempts = [client.connect(), client.request(), client.request({ body: 'x' })];
    for (const error of await Promise.all(attempts.map(failureOf))) {
      expect(error.code).toBe(code);
      expect(error.message).toMatch(/^Cannot (connect|send a request) to "\w+" at http/);
      expect(error.message).not.toMatch(/sig=[^…]|SharedAccessKey=/);
      expect(error.trackingId).toMatch(/^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/);
    }
  });

  test('is told Rejected with the words of the listener', async () => {
    await using relay = await startRelay();
    await using _ = await openListener(optionsFor(relay), {
      onConnection: offer => offer.reject(418, 'Not today, thank you'),
    });
    const error = await failureOf(new HybridConnectionClient(optionsFor(relay)).connect());
    expect(error).toMatchObject({
      code: 'Rejected',
      status: 418,
      reason: 'Not today, thank you',
      isTransient: false,
    });
    expect(error.trackingId).toBeUndefined();
  });

  test.each([
    ['501', {}],
    [
      '502',
      {
        onConnection: () => {
          throw new Error('a bug');
        },
      },
    ],
  ] as const)('gets %s when the handler is missing or fails', async (status, handlers) => {
    await using relay = await startRelay();
    await using listener = await openListener(optionsFor(relay), handlers);
    const failures: unknown[] = [];
    listener.on('error', why => failures.push(why));
    const error = await failureOf(new HybridConnectionClient(optionsFor(relay)).connect());
    expect(error).toMatchObject({ code: 'Rejected', status: Number(status) });
    expect(failures).toHaveLength(status === '502' ? 1 : 0);
  });

  test('is told Timeout by the relay when no listener accepts, and by itself when told to wait less', async () => {
    await using relay = await startRelay({ acceptTimeoutMs: 300, requestTimeoutMs: 300 });
    await using _ = await openListener(optionsFor(relay), {
      onConnection: () => undefined,
      onRequest: () => new Promise(() => undefined),
    });
    const client = new HybridConnectionClient(optionsFor(relay));
    const byRelay = { code: 'Timeout', status: 504, isTransient: true };
    expect(await failureOf(client.connect())).toMatchObject(byRelay);
    expect(await failureOf(client.request())).toMatchObject(byRelay);
    const attempts = [client.connect({ timeoutMs: 50 }), client.request({ timeoutMs: 50 })];
    for (const error of await Promise.all(attempts.map(failureOf))) {
      expect(error).toMatchObject({ code: 'Timeout', status: undefined });
      expect(error.message).toMatch(/no answer within 0.05 s/);
    }
  });

  test('is told Aborted with the reason of its signal, before and while it waits', async () => {
    await using relay = await startRelay();
    await using _ = await openListener(optionsFor(relay), {
      onConnection: () => undefined,
      onRequest: () => new Promise(() => undefined),
    });
    const client = new HybridConnectionClient(optionsFor(relay));
    const attempts = [
      (signal: AbortSignal) => client.connect({ signal }),
      (signal: AbortSignal) => client.request({ signal }),
    ];
    for (const attempt of attempts) {
      const aborter = new AbortController();
      const waiting = failureOf(attempt(aborter.signal));
      aborter.abort('enough');
      expect(await waiting).toMatchObject({ code: 'Aborted', cause: 'enough' });
      expect(await failureOf(attempt(aborter.signal))).toMatchObject({ code: 'Aborted' });
    }
  });

  test('is told ConnectionFailed with host and port where nothing listens or no name is', async () => {
    const port = await freePort();
    const at = (host: string): HybridConnectionClient =>
      new HybridConnectionClient({
        endpoint: `http://${host}:${port}`,
        path: 'hyco',
        transport: 'websocket',
        proxy: false,
      });
    const refused = await failureOf(at('127.0.0.1').connect());
    expect(refused).toMatchObject({ code: 'ConnectionFailed', isTransient: true });
    expect(refused.message).toMatch(`127.0.0.1:${port}: nothing listens there`);
    const unknown = await failureOf(at('no-such-host.invalid').request());
    expect(unknown).toMatchObject({ code: 'ConnectionFailed' });
    expect(unknown.message).toMatch(`no-such-host.invalid:${port}`);
  });

  test('takes the answer of something else for no refusal of the relay', async () => {
    const server = createServer((_request, response) => {
      response.writeHead(502, 'Bad Gateway').end('<html>nginx</html>');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = new HybridConnectionClient({
      endpoint: `http://127.0.0.1:${portOf(server)}`,
      path: 'hyco',
      transport: 'websocket',
    });
    for (const error of await Promise.all([client.connect(), client.request()].map(failureOf))) {
      expect(error).toMatchObject({ code: 'Unavailable', status: 502, trackingId: undefined });
      expect(error.message).toMatch(/not an answer of the relay/);
    }
    server.closeAllConnections();
    server.close();
  });

  test('is told ProtocolError by a server that speaks something else', async () => {
    const server = createServer();
    server.on('upgrade', (_request, socket) => {
      socket.end(
        'HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n',
      );
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = new HybridConnectionClient({
      endpoint: `ws://127.0.0.1:${portOf(server)}`,
      path: 'hyco',
      transport: 'websocket',
    });
    expect(await failureOf(client.connect())).toMatchObject({ code: 'ProtocolError' });
    server.close();
  });

  test('is told Unauthorized when its token provider fails, and the cause', async () => {
    await using relay = await startRelay();
    const cause = new Error('the vault is locked');
    const client = new HybridConnectionClient(
      optionsFor(relay, { tokenProvider: { getToken: () => Promise.reject(cause) } }),
    );
    expect(await failureOf(client.connect())).toMatchObject({ code: 'Unauthorized', cause });
  });

  test('needs no token where the hybrid connection lets everybody in, and takes a fixed one', async () => {
    await using relay = await startRelay();
    await using _ = await openListener(
      optionsFor(relay, { path: 'open', tokenProvider: fixedToken(relay.token('open')) }),
      { onRequest: () => ({ status: 204 }) },
    );
    const anonymous = new HybridConnectionClient({ endpoint: relay.httpUrl, path: 'open' });
    expect((await anonymous.request()).status).toBe(204);
  });
});

describe('options', () => {
  const key = 'SharedAccessKeyName=root;SharedAccessKey=c2VjcmV0';
  test.each([
    ['nothing at all', {}, /connectionString.*endpoint/],
    [
      'a broken connection string',
      { connectionString: `Endpoint=nowhere;${key}` },
      /Endpoint must/,
    ],
    ['no path', { connectionString: `Endpoint=sb://h/;${key}` }, /`path`/],
    ['a path that is none', { endpoint: 'sb://h', path: 'a b' }, /"a b" is not a name/],
    ['an endpoint that is none', { endpoint: 'ftp://h', path: 'a' }, /such as sb:/],
    ['no key', { endpoint: 'sb://h', path: 'a' }, /without a key/],
  ])('with %s are a TypeError that repeats no secret', (_what, options, text) => {
    const make = (): unknown => new HybridConnectionListener(options, {});
    expect(make).toThrow(TypeError);
    expect(make).toThrow(text);
    expect(make).not.toThrow(/c2VjcmV0/);
  });
});
