import { randomBytes } from 'node:crypto';
import { createServer, type RequestListener } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { makeCertificate } from '../support/certificate.ts';
import { startConnectProxy } from '../support/connect-proxy.ts';
import { HAS_NATIVE } from '../support/data-planes.ts';
import { Inbox } from '../support/inbox.ts';
import { ROOT_KEY, SEND_KEY, startRelay, type TestRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';
import { portOf } from './port-of.ts';
import { commandResult, runCommand, type RunningCommand } from './run-command.ts';

// listen, connect and request against a real relay in this process.

let relay: TestRelay;
beforeAll(async () => {
  relay = await startRelay();
});
afterAll(() => relay.server.stop());

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

function env(rule = `SharedAccessKeyName=root;SharedAccessKey=${ROOT_KEY}`) {
  return { HALFWAY_CONNECTION_STRING: `Endpoint=sb://127.0.0.1:${relay.port}/;${rule}` };
}

async function listen(...argv: readonly string[]): Promise<RunningCommand> {
  const listener = runCommand(['listen', 'hyco', ...argv], { env: env() });
  cleanups.push(() => listener[Symbol.asyncDispose]());
  await listener.saw('listening on');
  return listener;
}

/** A server that a listener can forward to. */
async function startTarget(answer: RequestListener) {
  const server = createServer(answer);
  const webSocket = new WebSocketServer({ server });
  await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
  cleanups.push(() => {
    for (const client of webSocket.clients) client.terminate();
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${portOf(server)}`, webSocket };
}

const request = (...argv: readonly string[]) => commandResult(['request', ...argv], { env: env() });

describe('listen, which echoes, with request', () => {
  test('sends a body back, with its type', async () => {
    await listen();
    const type = 'Content-Type: application/x-test';
    const { exitCode, out } = await request('hyco/a?b=1', '-d', 'Good morning', '-H', type, '-i');
    expect(exitCode).toBe(0);
    expect(out).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(out).toMatch(/\r\ncontent-type: application\/x-test\r\n/i);
    expect(out).toMatch(/\r\n\r\nGood morning$/);
  });

  test('answers a request without a body with what it was', async () => {
    await listen();
    expect((await request('hyco/a/b?c=d')).out).toBe('GET /hyco/a/b?c=d\n');
  });

  test('answers HEAD without a body', async () => {
    await listen();
    const { exitCode, out } = await request('hyco', '-X', 'HEAD', '-i');
    expect([exitCode, out.split('\r\n\r\n')[1]]).toEqual([0, '']);
  });

  test.each([
    ['on the control channel', 60_000],
    ['by a rendezvous', 3_000_000],
  ])('sends binary data back %s', async (_, size) => {
    await listen();
    const body = randomBytes(size);
    const sender = runCommand(['request', 'hyco', '-d', '-'], { env: env() });
    sender.stdin.end(body);
    expect(await within('the answer', sender.exitCode)).toBe(0);
    expect(sender.outBytes().equals(body)).toBe(true);
  });

  test('--json prints status, headers and body as one object', async () => {
    await listen();
    const { out } = await request('hyco', '-d', 'x', '--json');
    expect(JSON.parse(out)).toMatchObject({ status: 200, reason: 'OK', body: 'x' });
  });
});

describe('request', () => {
  test('ends with 1 when there is no listener, says so and what to do, and prints the body', async () => {
    const { exitCode, out, err } = await request('hyco');
    expect(exitCode).toBe(1);
    expect(err).toMatch(/^halfway: the relay refused: 404 .*\n {2}check PATH/);
    expect(JSON.parse(out)).toHaveProperty('error');
  });

  test('prints no body with --fail, and nothing at all with --quiet beside it', async () => {
    const { exitCode, out, err } = await request('hyco', '--fail', '--quiet');
    expect([exitCode, out, err]).toEqual([1, '', '']);
  });

  test('ends with 1 when the key is wrong, and does not show it', async () => {
    const wrong = env('SharedAccessKeyName=root;SharedAccessKey=s3cret');
    const { exitCode, err } = await commandResult(['request', 'hyco'], { env: wrong });
    expect(exitCode).toBe(1);
    expect(err).toContain('401');
    expect(err).not.toContain('s3cret');
  });

  test('needs no key where senders need none', async () => {
    const listener = runCommand(['listen', 'open'], { env: env() });
    cleanups.push(() => listener[Symbol.asyncDispose]());
    await listener.saw('listening on');
    const anonymous = { HALFWAY_CONNECTION_STRING: `Endpoint=http://127.0.0.1:${relay.port}` };
    const { exitCode } = await commandResult(['request', 'open'], { env: anonymous });
    expect(exitCode).toBe(0);
  });

  test('ends with 1 when nothing listens there, in plain words', async () => {
    const nowhere = { HALFWAY_CONNECTION_STRING: 'Endpoint=http://127.0.0.1:1/' };
    const { exitCode, err } = await commandResult(['request', 'hyco'], { env: nowhere });
    expect([exitCode, err]).toEqual([
      1,
      'halfway: Cannot request "hyco" at http://127.0.0.1:1: nothing listens there (connection refused)\n',
    ]);
  });
});

describe('connect', () => {
  test('sends lines as text messages and prints those that come', async () => {
    await listen();
    const sender = runCommand(['connect', 'hyco', '--text'], { env: env() });
    sender.stdin.write('grüß\nGott');
    await sender.saw('grüß\n');
    sender.stdin.write(', ja\n');
    await sender.saw('Gott, ja\n');
    sender.stdin.end();
    expect(await within('the end', sender.exitCode)).toBe(0);
    expect(sender.out()).toBe('grüß\nGott, ja\n');
  });

  test.runIf(HAS_NATIVE)('waits for all answers after its input has ended', async () => {
    await listen();
    const input = 'a\nb\n'.repeat(10_000);
    const argv = ['connect', 'hyco', '--text'];
    const { exitCode, out } = await commandResult(argv, { env: env(), input });
    expect([exitCode, out === input]).toEqual([0, true]);
  });

  test('carries bytes both ways', async () => {
    await listen();
    const bytes = randomBytes(1_000_000);
    const sender = runCommand(['connect', 'hyco'], { env: env() });
    sender.stdin.write(bytes);
    await until('all came back', () => sender.outBytes().length >= bytes.length);
    sender.stdin.end();
    expect(await within('the end', sender.exitCode)).toBe(0);
    expect(sender.outBytes().equals(bytes)).toBe(true);
  });

  test('ends with 1 and the code when the listener closes otherwise', async () => {
    const target = await startTarget(() => undefined);
    target.webSocket.on('connection', socket => socket.close(4001, 'not today'));
    await listen('--to', target.url);
    const { exitCode, err } = await commandResult(['connect', 'hyco'], { env: env(), input: '' });
    expect([exitCode, err]).toEqual([1, 'halfway: closed with 4001 not today\n']);
  });

  test('says what to do when there is no listener', async () => {
    const { exitCode, err } = await commandResult(['connect', 'hyco'], { env: env() });
    expect(exitCode).toBe(1);
    expect(err).toMatch(/^halfway: Cannot connect to "hyco": refused with 404 .*\n {2}check PATH/);
  });
});

describe('listen', () => {
  test('ends with 1 when it may not, and says which right is needed', async () => {
    const sendOnly = env(`SharedAccessKeyName=sender;SharedAccessKey=${SEND_KEY}`);
    const { exitCode, err } = await commandResult(['listen', 'hyco'], { env: sendOnly });
    expect(exitCode).toBe(1);
    expect(err).toMatch(/^halfway: Cannot listen on "hyco": refused with 40[13] /);
    expect(err).not.toContain(SEND_KEY);
  });

  test('ends with 1 on a hybrid connection that does not exist', async () => {
    const { exitCode, err } = await commandResult(['listen', 'nowhere'], { env: env() });
    expect(exitCode).toBe(1);
    expect(err).toMatch(/refused with 404/);
  });

  test('ends with 0 on SIGTERM, and its senders get no listener any more', async () => {
    const listener = await listen();
    listener.signal('SIGTERM');
    expect(await within('the end', listener.exitCode)).toBe(0);
    await until('gone', async () => (await request('hyco')).err.includes('404'));
  });

  test('says why it cannot reach the relay, and tries again', async () => {
    const string = env().HALFWAY_CONNECTION_STRING.replace(`:${relay.port}/`, ':1/');
    const argv = ['listen', 'hyco'];
    await using listener = runCommand(argv, { env: { HALFWAY_CONNECTION_STRING: string } });
    await listener.saw('cannot reach ws://127.0.0.1:1: nothing listens there');
    expect(listener.err()).toMatch(/; trying again in 0\.\d s\n/);
  });

  test('--print shows messages and requests', async () => {
    const listener = await listen('--print');
    await request('hyco/path?q=1', '-d', 'a body');
    const sender = runCommand(['connect', 'hyco', '--text'], { env: env(), input: 'a line\n' });
    await within('the end', sender.exitCode);
    await listener.saw('[1] closed');
    expect(listener.out()).toContain('POST /hyco/path?q=1\na body\n');
    expect(listener.out()).toContain('[1] a line\n');
  });

  test('--print --json shows one object a line', async () => {
    const listener = await listen('--print', '--json');
    const { exitCode } = await request('hyco', '-d', 'x');
    expect(exitCode).toBe(0);
    const events = listener.out().trimEnd().split('\n');
    expect(events.map(line => JSON.parse(line))).toEqual([
      expect.objectContaining({ event: 'request', method: 'POST', target: '/hyco' }),
      { event: 'body', text: 'x' },
    ]);
  });
});

describe('listen --to', () => {
  test('forwards method, path, query, headers and body, and brings the answer back', async () => {
    const target = await startTarget((incoming, outgoing) => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.on('end', () => {
        const { method, url, headers } = incoming;
        outgoing.writeHead(418, 'Short and stout', { 'Set-Cookie': ['a=1', 'b=2'], 'X-Is': 'tea' });
        const seen = [method, url, headers['x-a'], headers.host, headers['x-forwarded-for']];
        outgoing.end(`${seen.join(' ')} ${Buffer.concat(chunks).toString()}`);
      });
    });
    await listen('--to', `${target.url}/base/`);
    const argv = ['hyco/a%20b?c=d&e', '-X', 'PATCH', '-H', 'X-A: yes', '-d', 'the body', '-i'];
    const { exitCode, out, err } = await request(...argv);
    expect(exitCode).toBe(1);
    expect(err).toBe('halfway: the listener answered: 418 Short and stout\n');
    expect(out).toMatch(/^HTTP\/1\.1 418 Short and stout\r\n/);
    expect(out).toMatch(/set-cookie: a=1\r\nset-cookie: b=2\r\n/i);
    const host = target.url.replace('http://', '');
    expect(out.split('\r\n\r\n')[1]).toBe(`PATCH /base/a%20b?c=d&e yes ${host} 127.0.0.1 the body`);
  });

  test('--keep-path leaves the name of the hybrid connection in the path', async () => {
    const target = await startTarget((incoming, outgoing) => outgoing.end(incoming.url));
    await listen('--to', target.url, '--keep-path');
    expect((await request('hyco/a')).out).toBe('/hyco/a');
  });

  test('streams an answer event by event', async () => {
    const ticks = new Inbox<() => void>('a tick');
    const target = await startTarget((_incoming, outgoing) => {
      outgoing.writeHead(200, { 'Content-Type': 'text/event-stream' });
      outgoing.write('data: 1\n\n');
      ticks.put(() => outgoing.write('data: 2\n\n'));
      ticks.put(() => outgoing.end('data: 3\n\n'));
    });
    await listen('--to', target.url);
    const sender = runCommand(['request', 'hyco'], { env: env() });
    await sender.saw('data: 1\n');
    expect(sender.out()).not.toContain('data: 2');
    (await ticks.next())();
    await sender.saw('data: 2\n');
    expect(sender.out()).not.toContain('data: 3');
    (await ticks.next())();
    expect(await within('the end', sender.exitCode)).toBe(0);
  });

  test('streams a body up while it is written', async () => {
    const pieces = new Inbox<string>('a piece');
    const target = await startTarget((incoming, outgoing) => {
      incoming.on('data', (chunk: Buffer) => pieces.put(chunk.toString()));
      incoming.on('end', () => outgoing.end('done'));
    });
    await listen('--to', target.url);
    const sender = runCommand(['request', 'hyco', '-d', '-'], { env: env() });
    sender.stdin.write('first');
    expect(await pieces.next()).toBe('first');
    sender.stdin.end('second');
    expect(await pieces.next()).toBe('second');
    expect(await within('the end', sender.exitCode)).toBe(0);
    expect(sender.out()).toBe('done');
  });

  test('lets go of the target when the sender hangs up', async () => {
    const closed = new Inbox<true>('the end of the answer');
    const target = await startTarget((_incoming, outgoing) => {
      outgoing.write('and then ');
      outgoing.on('close', () => closed.put(true));
    });
    await listen('--to', target.url);
    const controller = new AbortController();
    const response = await fetch(`${relay.httpUrl}/hyco`, {
      headers: { ServiceBusAuthorization: relay.token() },
      signal: controller.signal,
    });
    expect(response.status).toBe(200);
    controller.abort();
    expect(await closed.next()).toBe(true);
  });

  test('goes on when a sender has gone before its answer came', async () => {
    const held = new Inbox<() => void>('a held request');
    const target = await startTarget((incoming, outgoing) => {
      if (incoming.url === '/quick') outgoing.end('quick');
      else held.put(() => outgoing.end(Buffer.alloc(1_000_000)));
    });
    const listener = await listen('--to', target.url);
    const controller = new AbortController();
    const headers = { ServiceBusAuthorization: relay.token() };
    const lost = fetch(`${relay.httpUrl}/hyco/slow`, { headers, signal: controller.signal });
    const answer = await held.next();
    controller.abort();
    await expect(lost).rejects.toThrow();
    answer();
    await listener.saw('a sender has gone: 4');
    expect((await request('hyco/quick')).out).toBe('quick');
  });

  test('breaks an answer off where its target does', async () => {
    const target = await startTarget((_incoming, outgoing) => {
      outgoing.writeHead(200, { 'Content-Length': '1000000' });
      outgoing.write(Buffer.alloc(200_000), () => outgoing.destroy());
    });
    await listen('--to', target.url);
    const { exitCode, err } = await request('hyco');
    expect(exitCode).toBe(1);
    expect(err).toMatch(/^halfway: Cannot request "hyco"/);
  });

  test('answers 502 when nothing listens at the target, and says so itself', async () => {
    const listener = await listen('--to', 'http://127.0.0.1:1');
    const { exitCode, err } = await request('hyco');
    expect(exitCode).toBe(1);
    expect(err).toContain('the listener answered: 502');
    await listener.saw('Cannot reach http://127.0.0.1:1: nothing listens there');
  });

  test('forwards a WebSocket with path, query and subprotocol, both ways', async () => {
    const target = await startTarget(() => undefined);
    target.webSocket.on('connection', (socket, incoming) => {
      socket.send(`${incoming.url} ${socket.protocol}`);
      socket.on('message', (data: Buffer, isBinary) => socket.send(data, { binary: isBinary }));
    });
    await listen('--to', target.url.replace('http', 'ws'));
    const argv = ['connect', 'hyco/chat?room=7', '--text', '--protocol', 'v2', '--protocol', 'v1'];
    const sender = runCommand(argv, { env: env() });
    await sender.saw('/chat?room=7 v2\n');
    sender.stdin.write('hello\n');
    await sender.saw('\nhello\n');
    sender.stdin.end();
    expect(await within('the end', sender.exitCode)).toBe(0);
  });

  test("turns a sender away with the target's own status", async () => {
    const server = createServer();
    server.on('upgrade', incoming => {
      incoming.socket.end('HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
    });
    await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
    cleanups.push(() => void server.close());
    await listen('--to', `ws://127.0.0.1:${portOf(server)}`);
    const { exitCode, err } = await commandResult(['connect', 'hyco'], { env: env() });
    expect(exitCode).toBe(1);
    expect(err).toContain('refused with 403 Forbidden');
  });
});

describe('the way to the relay', () => {
  test.each(['websocket', 'poll'])('is %s where --transport says so', async transport => {
    const how = ['--transport', transport];
    const listener = await listen(...how);
    expect(listener.err().includes('by long-polling')).toBe(transport === 'poll');
    expect((await request('hyco', '-d', 'a body')).out).toBe('a body');
    const argv = ['connect', 'hyco', '--text', ...how];
    const { exitCode, out } = await commandResult(argv, { env: env(), input: 'a line\n' });
    expect([exitCode, out]).toEqual([0, 'a line\n']);
  });

  test('leads through the proxy that --proxy names, whose password is not shown', async () => {
    await using proxy = await startConnectProxy({ credentials: 'user:s3cret' });
    await listen('--proxy', proxy.url);
    const { out } = await request('hyco', '-d', 'a body', '--proxy', proxy.url);
    expect(out).toBe('a body');
    expect(proxy.asked).toContain(`CONNECT 127.0.0.1:${relay.port}`);
    const wrong = proxy.url.replace('user', 'nobody');
    const { exitCode, err } = await request('hyco', '--proxy', wrong);
    expect(exitCode).toBe(1);
    expect(err).toMatch(/^halfway: .*the proxy 127\.0\.0\.1:\d+ answered 407 /);
    expect(err).not.toContain('s3cret');
  });

  test('trusts the authorities of --ca, and says so where one is missing', async () => {
    using certificate = makeCertificate();
    const { certFile: tlsCert, keyFile: tlsKey } = certificate;
    await using secure = await startRelay({ tlsCert, tlsKey });
    const rule = `SharedAccessKeyName=root;SharedAccessKey=${ROOT_KEY}`;
    const there = {
      HALFWAY_CONNECTION_STRING: `Endpoint=https://localhost:${secure.port};${rule}`,
    };
    const { exitCode, err } = await commandResult(['request', 'hyco'], { env: there });
    expect(exitCode).toBe(1);
    expect(err).toMatch(/its certificate is self-signed; .* --ca FILE\n$/);
    const listener = runCommand(['listen', 'hyco', '--ca', tlsCert], { env: there });
    cleanups.push(() => listener[Symbol.asyncDispose]());
    await listener.saw('listening on');
    const argv = ['request', 'hyco', '-d', 'a body', '--ca', tlsCert];
    expect((await commandResult(argv, { env: there })).out).toBe('a body');
    await listener[Symbol.asyncDispose]();
  });
});
