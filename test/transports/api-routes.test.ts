import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { BodyFault, type ApiHandler, type ApiResponse } from '../../src/api/api-request.ts';
import { refusalOf, refusalResponse } from '../../src/api/api-error.ts';
import { systemClock } from '../../src/base/clock.ts';
import { addApiRoutes, type ApiLimits, type ApiTraffic } from '../../src/transports/api-routes.ts';
import { Outbox } from '../../src/transports/outbox.ts';
import { LISTEN_EXCLUSIVE, uWS } from '../../src/transports/uws.ts';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

interface Server {
  readonly port: number;
  readonly traffic: ApiTraffic;
  readonly bugs: unknown[];
}

async function serve(handle: ApiHandler, limits: Partial<ApiLimits> = {}): Promise<Server> {
  const app = uWS.App();
  const bugs: unknown[] = [];
  const traffic = addApiRoutes(app, {
    handle,
    clock: systemClock,
    outbox: new Outbox(),
    peers: { trustedProxies: [], remotePort: () => 0, terminated: () => undefined },
    disarmTimeout: () => undefined,
    reportBug: bug => void bugs.push(bug),
    limits,
  });
  app.any('/*', response => void response.writeStatus('418 Catch-all').end());
  const port = await new Promise<number>(resolve => {
    app.listen('127.0.0.1', 0, LISTEN_EXCLUSIVE, socket => {
      resolve(socket === false ? 0 : uWS.us_socket_local_port(socket));
    });
  });
  cleanups.push(() => app.close());
  return { port, traffic, bugs };
}

const empty: ApiResponse = { status: 204, headers: {} };

function url({ port }: Server, path: string): string {
  return `http://127.0.0.1:${port}${path}`;
}

/** Answers with what was thrown, as the REST interface does. */
async function told(work: Promise<ApiResponse>): Promise<ApiResponse> {
  return work.catch((error: unknown) => refusalResponse(refusalOf(error), 'tracking'));
}

test('a request comes with its head, its body and who asks', async () => {
  const seen: unknown[] = [];
  const server = await serve(async request => {
    const body = Buffer.from(await request.readBody(100)).toString();
    const { method, path, query, headers, remoteAddress } = request;
    seen.push({ method, path, query: [...query], body, remoteAddress, x: headers.get('x-a') });
    return { status: 201, headers: { ETag: '"1"' }, body: '{}' };
  });
  const answer = await fetch(url(server, '/$api/v1/a%2Fb?x=1&y=%20'), {
    method: 'PATCH',
    headers: { 'X-A': 'b' },
    body: 'text',
  });
  expect(answer.status).toBe(201);
  expect(answer.statusText).toBe('Created');
  expect(answer.headers.get('etag')).toBe('"1"');
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect(await answer.text()).toBe('{}');
  expect(seen).toEqual([
    {
      method: 'PATCH',
      path: '/$api/v1/a%2Fb',
      query: [
        ['x', '1'],
        ['y', ' '],
      ],
      body: 'text',
      remoteAddress: '127.0.0.1',
      x: 'b',
    },
  ]);
});

test('only what is below /$api is taken', async () => {
  const server = await serve(() => Promise.resolve(empty));
  expect((await fetch(url(server, '/$api'))).status).toBe(204);
  expect((await fetch(url(server, '/$apix/v1'))).status).toBe(418);
  expect((await fetch(url(server, '/other'))).status).toBe(418);
});

test('HEAD is answered without a body, and the connection goes on', async () => {
  const server = await serve(({ method }) =>
    Promise.resolve({ status: 200, headers: {}, body: method === 'HEAD' ? 'abc' : 'abcd' }),
  );
  const text = await raw(server, [
    ['HEAD /$api/v1/x HTTP/1.1\r\nHost: a\r\n\r\n', '\r\n\r\n'],
    ['GET /$api/v1/x HTTP/1.1\r\nHost: a\r\n\r\n', 'abcd'],
  ]);
  expect(text).toMatch(/^HTTP\/1.1 200 OK\r\n.*Content-Length: 3\r\n.*\r\n\r\nHTTP\/1.1 200 OK/s);
});

test('a body over the limit is refused, also one whose length is not said', async () => {
  const server = await serve(request =>
    told(request.readBody(1_000).then(() => ({ status: 200, headers: {}, body: 'x' }))),
  );
  const long = 'x'.repeat(200_000);
  const known = await fetch(url(server, '/$api/v1/x'), { method: 'POST', body: long });
  expect(known.status).toBe(413);
  const chunked = await post(server, [long.slice(0, 500), long]);
  expect(chunked.statusCode).toBe(413);
  expect(server.traffic).toMatchObject({ requests: 0, heldBytes: 0 });
});

test('a large body comes whole, and is let go of afterwards', async () => {
  const bytes = randomBytes(5_000_000);
  let held = 0;
  const server = await serve(async request => {
    const body = await request.readBody(bytes.length);
    held = server.traffic.heldBytes;
    return { status: 200, headers: {}, body: String(Buffer.compare(body, bytes)) };
  });
  const answer = await fetch(url(server, '/$api/v1/x'), { method: 'POST', body: bytes });
  expect(await answer.text()).toBe('0');
  expect(held).toBe(bytes.length);
  expect(server.traffic.heldBytes).toBe(0);
});

test('a body that nobody asks for does not hold up the answer', async () => {
  const server = await serve(() => Promise.resolve({ status: 401, headers: {}, body: 'no' }));
  const answer = await post(server, ['x'.repeat(300_000), 'x'.repeat(300_000)]);
  expect(answer.statusCode).toBe(401);
});

test('bodies together have a limit', async () => {
  const server = await serve(
    request =>
      told(
        request
          .readBody(1_000_000)
          .then(body => ({ status: 200, headers: {}, body: String(body.length) })),
      ),
    { heldBytesMax: 100_000 },
  );
  const answer = await fetch(url(server, '/$api/v1/x'), {
    method: 'POST',
    body: 'x'.repeat(200_000),
  });
  expect(answer.status).toBe(503);
  expect(answer.headers.get('retry-after')).toBe('2');
  expect(server.traffic).toMatchObject({ heldBytes: 0, refused: 1 });
});

test('requests under way have a limit', async () => {
  const gate = new EventEmitter();
  const held = once(gate, 'open');
  const server = await serve(() => held.then(() => empty), { requestsMax: 1 });
  const first = fetch(url(server, '/$api/v1/x'));
  await until(() => server.traffic.requests === 1);
  const second = await fetch(url(server, '/$api/v1/x'));
  expect(second.status).toBe(503);
  expect(await second.json()).toMatchObject({ code: 'Overloaded' });
  gate.emit('open');
  expect((await first).status).toBe(204);
  expect(server.traffic).toMatchObject({ requests: 0, refused: 1 });
});

test.each([
  'Content-Length: 3\r\nTransfer-Encoding: chunked',
  'Content-Length: 3\r\nContent-Length: 4',
  'Content-Length: +3',
  'Transfer-Encoding: gzip, chunked',
  'Transfer-Encoding: x',
])(
  'a body that ends in a doubtful place (%j) is not read, nor anything behind it',
  async framing => {
    const server = await serve(() => Promise.resolve(empty));
    const socket = connect(server.port, '127.0.0.1');
    cleanups.push(() => socket.destroy());
    socket.write(`POST /$api/v1/x HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\nabc`);
    let text = '';
    for await (const chunk of socket) text += String(chunk);
    expect(text).toMatch(/^HTTP\/1.1 400 /);
    expect(text.match(/HTTP\/1.1/g)).toHaveLength(1);
  },
);

test('a body that stands still is given up', async () => {
  const server = await serve(
    request => told(request.readBody(100).then(() => ({ status: 200, headers: {}, body: '' }))),
    { bodyIdleMs: 50 },
  );
  const head = 'POST /$api/v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n';
  const text = await raw(server, [[`${head}abc`, 'RequestTimeout']]);
  expect(text).toMatch(/^HTTP\/1.1 408 /);
});

test('whoever goes away aborts its request', async () => {
  const reasons: unknown[] = [];
  const server = await serve(async request => {
    await new Promise(resolve => {
      request.signal.addEventListener('abort', resolve);
    });
    reasons.push(await request.readBody(10).catch((error: unknown) => error));
    return empty;
  });
  const going = new AbortController();
  const answer = fetch(url(server, '/$api/v1/x'), { signal: going.signal });
  await until(() => server.traffic.requests === 1);
  going.abort();
  await expect(answer).rejects.toThrow('abort');
  await until(() => server.traffic.requests === 0);
  expect(reasons).toEqual([new BodyFault('gone')]);
  expect(server.bugs).toEqual([]);
});

test('a large answer is made no faster than it is read', async () => {
  const part = randomBytes(256 * 1024);
  let made = 0;
  async function* parts(): AsyncGenerator<Uint8Array> {
    for (let number = 0; number < 200; number += 1) {
      made += 1;
      yield await Promise.resolve(part);
    }
  }
  const server = await serve(() =>
    Promise.resolve({ status: 200, headers: { 'Content-Type': 'text/plain' }, body: parts() }),
  );
  const answer = await get(server, '/$api/v1/x');
  // What the sockets take is made, no more: nobody reads yet.
  await until(() => made > 1);
  await settledAt(() => made);
  expect(made).toBeLessThan(150);
  let bytes = 0;
  for await (const chunk of answer) bytes += Buffer.from(chunk).length;
  expect(bytes).toBe(200 * part.length);
  expect(made).toBe(200);
});

test('an answer that breaks off is not taken for a whole one', async () => {
  const server = await serve(() => Promise.resolve({ status: 200, headers: {}, body: broken() }));
  await expect(fetch(url(server, '/$api/v1/x')).then(answer => answer.text())).rejects.toThrow();
  expect(server.bugs).toEqual([new Error('part is gone')]);
});

test('a reader that goes away ends what is made for it', async () => {
  let isEnded = false;
  async function* parts(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield await Promise.resolve(randomBytes(65_536));
    } finally {
      isEnded = true;
    }
  }
  const server = await serve(() => Promise.resolve({ status: 200, headers: {}, body: parts() }));
  const answer = await get(server, '/$api/v1/x');
  answer.destroy();
  await until(() => isEnded && server.traffic.requests === 0);
  expect(server.bugs).toEqual([]);
});

/** Sends bytes as they are, each when what ends the answer before has come; gives all that has come. */
async function raw(
  server: Server,
  exchanges: readonly (readonly [sent: string, last: string])[],
): Promise<string> {
  const socket = connect(server.port, '127.0.0.1');
  cleanups.push(() => socket.destroy());
  let text = '';
  let seen = 0;
  for (const [sent, last] of exchanges) {
    socket.write(sent);
    while (!text.includes(last, seen)) {
      const [chunk] = await once(socket, 'data');
      text += String(chunk);
    }
    seen = text.length;
  }
  return text;
}

function post(server: Server, parts: readonly string[]): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const about = { port: server.port, host: '127.0.0.1', path: '/$api/v1/x', method: 'POST' };
    const request = httpRequest(about, answer => {
      resolve(answer);
      answer.resume();
    });
    request.on('error', reject);
    for (const part of parts) request.write(part);
    request.end();
    cleanups.push(() => request.destroy());
  });
}

function get(server: Server, path: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ port: server.port, host: '127.0.0.1', path }, resolve);
    request.on('error', reject).end();
    cleanups.push(() => request.destroy());
  });
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise(resolve => void setImmediate(resolve));
}

/** Until a number has not changed for some turns of the event loop. */
async function settledAt(read: () => number): Promise<void> {
  for (let same = 0, last = read(); same < 500; same += 1) {
    await new Promise(resolve => void setImmediate(resolve));
    if (read() !== last) same = 0;
    last = read();
  }
}

async function* broken(): AsyncGenerator<Uint8Array> {
  yield Buffer.from('begun');
  await Promise.reject(new Error('part is gone'));
}
