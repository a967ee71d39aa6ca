// The real package hyco-https as listener, plain and TLS, with node, fetch and curl as senders.
import { execFile, fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeCertificate, type Certificate } from '../support/certificate.ts';
import { DATA_PLANES } from '../support/http-planes.ts';
import { answerOf, headOf, openRequest, pattern, send, sha256 } from '../support/http-sender.ts';
import { Inbox } from '../support/inbox.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';

const LISTENER = join(import.meta.dirname, '../support/http-hyco-listener.mjs');
const run = promisify(execFile);

let certificate: Certificate;
beforeAll(() => {
  certificate = makeCertificate();
});
afterAll(() => certificate[Symbol.dispose]());

/** Starts the listener's process and waits until it is registered. */
async function startListener(relay: TestRelay, path = 'hyco'): Promise<ChildProcess> {
  const url = `${relay.wsUrl}/$hc/${path}?sb-hc-action=listen`;
  const child = fork(LISTENER, [url, relay.token(path)], {
    execArgv: [],
    env: { ...process.env, NODE_TLS_REJECT_UNAUTHORIZED: '0', NODE_NO_WARNINGS: '1' },
  });
  await within('hyco-https listening', once(child, 'message'));
  return child;
}

async function curl(...args: readonly string[]): Promise<string> {
  const { stdout } = await run('curl', ['--silent', '--show-error', '--insecure', ...args]);
  return stdout;
}

const KINDS = DATA_PLANES.flatMap(dataPlane =>
  (['plain', 'TLS'] as const).map(kind => [dataPlane, kind] as const),
);

describe.each(KINDS)('over %s, %s', (dataPlane, kind) => {
  let relay: TestRelay;
  let listener: ChildProcess;

  beforeAll(async () => {
    const tls = { tlsCert: certificate.certFile, tlsKey: certificate.keyFile };
    relay = await startRelay({ dataPlane, ...(kind === 'TLS' ? tls : {}) });
    listener = await startListener(relay);
  });

  afterAll(async () => {
    listener.kill('SIGKILL');
    await relay[Symbol.asyncDispose]();
  });

  test('describes the request as it was sent', async () => {
    const answer = await send(relay, '/hyco/a/describe?x=1&sb-hc-id=7&y=2', {
      method: 'PATCH',
      headers: { 'X-Own': 'kept', Cookie: 'a=1' },
      body: 'five!',
    });
    expect(JSON.parse(answer.body.toString())).toEqual({
      method: 'PATCH',
      url: '/hyco/a/describe?x=1&y=2',
      headers: expect.objectContaining({
        'x-own': 'kept',
        cookie: 'a=1',
        host: `127.0.0.1:${relay.port}`,
        via: `1.1 127.0.0.1:${relay.port}`,
      }),
      bytes: 5,
    });
  });

  test.each([0, 1, 60_000, 65_536, 65_537, 1_048_576])('echoes %i bytes', async size => {
    const body = pattern(size);
    // With an empty buffer the package sends nothing at all, so an empty echo is asked for by describe.
    if (size === 0) {
      const { bytes } = JSON.parse(
        (await send(relay, '/hyco/describe', { method: 'POST', body: '' })).body.toString(),
      );
      expect(bytes).toBe(0);
      return;
    }
    for (const headers of [{ 'Content-Length': size }, { 'Transfer-Encoding': 'chunked' }]) {
      const answer = await send(relay, '/hyco/echo', { method: 'POST', headers, body });
      expect(answer.status).toBe(200);
      expect(answer.headers['x-number']).toBe('7');
      expect(answer.headers['content-type']).toBe('application/x-echo');
      expect(sha256(answer.body)).toBe(sha256(body));
    }
  });

  test.each([200, 201, 204, 304, 404, 500])('an empty answer with %i', async code => {
    for (const method of ['GET', 'HEAD']) {
      const answer = await send(relay, `/hyco/status?code=${code}`, { method });
      expect(answer.status).toBe(code);
      expect(answer.body.length).toBe(0);
      expect(answer.headers['etag']).toBe('"1"');
    }
  });

  test('large answers come whole', async () => {
    for (const size of [65_000, 65_536, 200_000, 2_000_000]) {
      const answer = await send(relay, `/hyco/large?size=${size}`);
      expect(answer.body.length).toBe(size);
      expect(answer.headers['content-type']).toBe('application/x-large');
    }
  });

  test('a streamed answer comes whole, and in a request by rendezvous one event after another', async () => {
    const whole = (await send(relay, '/hyco/stream')).body.toString();
    expect(whole).toBe([0, 1, 2, 3, 4].map(i => `data: ${i}\n\n`).join(''));
    const sending = openRequest(relay, '/hyco/stream', {
      method: 'POST',
      headers: { 'Transfer-Encoding': 'chunked' },
    });
    sending.end('go');
    const response = await headOf(sending);
    const ended = once(response, 'end');
    const chunks = new Inbox<string>('an event');
    response.on('data', (chunk: Buffer) => chunks.put(chunk.toString()));
    if (dataPlane === 'native') {
      for (let i = 0; i < 5; i += 1) expect(await chunks.next()).toBe(`data: ${i}\n\n`);
    }
    await ended;
  });

  test('status, phrase and headers of its own', async () => {
    const answer = await send(relay, '/hyco/none');
    expect(answer).toMatchObject({ status: 404, phrase: 'No such thing' });
    expect(answer.headers['x-why']).toBe('unknown');
    expect(answer.body.toString()).toBe('nothing here');
  });

  test('100 requests at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        send(relay, '/hyco/echo', { method: 'POST', body: `body ${i}` }),
      ),
    );
    expect(answers.map(({ body }) => body.toString())).toEqual(
      Array.from({ length: 100 }, (_, i) => `body ${i}`),
    );
  });

  test('curl: GET, POST of a file in chunks, HEAD, and a refusal', async () => {
    const url = `${relay.httpUrl}/hyco`;
    const token = `ServiceBusAuthorization: ${relay.token()}`;
    const described = JSON.parse(await curl('-H', token, `${url}/describe?q=1`));
    expect(described).toMatchObject({ method: 'GET', url: '/hyco/describe?q=1' });
    const echoed = await curl(
      '-H',
      token,
      '-H',
      'Transfer-Encoding: chunked',
      '-T',
      LISTENER,
      `${url}/echo`,
    );
    expect(echoed).toContain("from 'node:module'");
    // Large enough for curl to ask before it sends.
    const big = await curl(
      '-H',
      token,
      '-H',
      'Expect: 100-continue',
      '--data-binary',
      `@${LISTENER}`,
      `${url}/describe`,
    );
    expect(JSON.parse(big)).toMatchObject({ method: 'POST' });
    expect(await curl('-H', token, '-I', `${url}/status?code=200`)).toMatch(
      /^HTTP\/1\.1 200 OK\r\n/,
    );
    expect(await curl('-o', '/dev/null', '-w', '%{http_code}', `${url}/echo`)).toBe('401');
  });

  test('a listener that is killed is missed at once, and one that comes back is found', async () => {
    const other = await startListener(relay, 'a');
    expect((await send(relay, '/a/status?code=200')).status).toBe(200);
    other.kill('SIGKILL');
    await until('the listener is gone', () => relay.server.status().listeners === 1);
    const answer = await send(relay, '/a/status?code=200');
    expect(answer.status).toBe(404);
    expect(answer.phrase).toMatch(/^There are no listeners connected for the endpoint\. /);
    const again = await startListener(relay, 'a');
    expect((await send(relay, '/a/status?code=200')).status).toBe(200);
    again.kill('SIGKILL');
  });
});

test('fetch as sender streams up and down', async () => {
  await using relay = await startRelay();
  const listener = await startListener(relay);
  const options: RequestInit & { readonly duplex: 'half' } = {
    method: 'PUT',
    headers: { ServiceBusAuthorization: relay.token() },
    body: new Blob([new Uint8Array(pattern(300_000))]).stream(),
    // Node asks for it, and its types do not know it.
    duplex: 'half',
  };
  const response = await fetch(`${relay.httpUrl}/hyco/echo`, options);
  expect(response.status).toBe(200);
  expect(sha256(new Uint8Array(await response.arrayBuffer()))).toBe(sha256(pattern(300_000)));
  listener.kill('SIGKILL');
});

test('keep-alive connections carry one request after another', async () => {
  await using relay = await startRelay();
  const listener = await startListener(relay);
  const { Agent } = await import('node:http');
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const reused: boolean[] = [];
  for (const [method, path, body] of [
    ['GET', '/hyco/describe', undefined],
    ['POST', '/hyco/echo', 'small'],
    ['POST', '/hyco/echo', pattern(100_000)],
    ['GET', '/hyco/status?code=204', undefined],
    ['GET', '/hyco/large?size=100000', undefined],
    ['GET', '/hyco/none', undefined],
    // Last, because node closes a connection after a HEAD whose answer names no length.
    ['HEAD', '/hyco/status?code=200', undefined],
  ] as const) {
    const sending = openRequest(relay, path, { method, agent });
    const answered = answerOf(sending);
    sending.end(body);
    expect((await answered).status).toBeLessThan(500);
    reused.push(sending.reusedSocket);
  }
  agent.destroy();
  expect(reused).toEqual([false, true, true, true, true, true, true]);
  listener.kill('SIGKILL');
});
