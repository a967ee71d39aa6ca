import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { addApiRoutes, type ApiTraffic } from '../../src/transports/api-routes.ts';
import { Outbox } from '../../src/transports/outbox.ts';
import { LISTEN_EXCLUSIVE, uWS } from '../../src/transports/uws.ts';
import { addMachine, apiBench, E, fields, textField, type ApiBench } from '../api/api-bench.ts';
import { settled } from '../support/fake-machines.ts';

// The REST interface over HTTP: a real port, a control plane in memory.

let bench: ApiBench;
let traffic: ApiTraffic;
let origin: string;
let close: () => void;

beforeEach(async () => {
  bench = await apiBench();
  const app = uWS.App();
  close = () => app.close();
  traffic = addApiRoutes(app, {
    handle: bench.api.handle,
    clock: systemClock,
    outbox: new Outbox(),
    peers: { trustedProxies: [], remotePort: () => 0, terminated: () => undefined },
    disarmTimeout: () => undefined,
    reportBug: bug => {
      throw bug;
    },
  });
  const port = await new Promise<number>(resolve => {
    app.listen('127.0.0.1', 0, LISTEN_EXCLUSIVE, socket => {
      resolve(socket === false ? 0 : uWS.us_socket_local_port(socket));
    });
  });
  origin = `http://127.0.0.1:${port}`;
});

afterEach(async () => {
  bench.api.close();
  await bench.plane.dispatcher.stop();
  close();
});

function http(
  method: string,
  path: string,
  token: string,
  more: RequestInit = {},
): Promise<Response> {
  const headers = new Headers(more.headers);
  headers.set('authorization', `Bearer ${token}`);
  return fetch(`${origin}${path}`, { ...more, method, headers });
}

function json(body: object): RequestInit {
  return { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
}

test('a run is asked for, watched, fed by its machine, and read', async () => {
  await bench.plane.dispatcher.start();
  const machine = await addMachine(bench);
  await machine.hello();
  const envelope = {
    v: 1,
    suite: 'p256',
    kid: machine.kid,
    enc: 'e'.repeat(87),
    ct: 'c'.repeat(64),
  };
  const target = { kind: 'machine', id: machine.id };
  const connection = json({ id: 'c1', name: 'c', target, envelope });
  expect((await http('POST', `${E}/connections`, bench.token, connection)).status).toBe(201);
  const job = { ref: 'x', kind: 'command', command: ['true'] };
  const asked = await http('POST', `${E}/runs`, bench.token, json({ connectionId: 'c1', job }));
  expect([asked.status, asked.headers.get('etag')]).toEqual([202, '"1"']);
  const location = asked.headers.get('location') ?? '';
  expect(location).toBe(`${E}/runs/${textField(await asked.json(), 'id')}`);
  await settled();
  const attempt = location.replace('/runs/', '/agent/runs/').concat('/attempts/1');
  const start = json({ fence: 1, instance: 'i1' });
  expect((await http('PUT', `${attempt}/start`, machine.token, start)).status).toBe(200);
  const held = http('GET', `${location}/logs?wait=25`, bench.token);
  await until(() => bench.api.waiting === 1);
  const bytes = Buffer.from('über\n'.repeat(10_000));
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const logged = await http(
    'POST',
    `${attempt}/logs?offset=0&fence=1&sha256=${sha256}`,
    machine.token,
    {
      body: gzipSync(bytes),
      headers: { 'content-type': 'application/octet-stream', 'content-encoding': 'gzip' },
    },
  );
  expect(await logged.json()).toMatchObject({ nextOffset: bytes.length });
  expect(await (await held).json()).toMatchObject({ next: 1, isOver: false });
  const outputs = { text: 'x'.repeat(5_000_000) };
  const about = { v: 1, type: 'result', runId: location.split('/').at(-1), attempt: 1, fence: 1 };
  const result = json({ ...about, status: 'Succeeded', outputs });
  expect((await http('PUT', `${attempt}/result`, machine.token, result)).status).toBe(204);
  const read = await http('GET', `${location}/outputs`, bench.token);
  expect(await read.json()).toEqual({ outputs, sealedOutputs: {} });
  const headers = { accept: 'text/plain' };
  const text = await http('GET', `${location}/logs`, bench.token, { headers });
  expect(text.headers.get('content-type')).toBe('text/plain; charset=utf-8');
  expect(await text.text()).toBe(bytes.toString());
  expect(traffic).toMatchObject({ requests: 0, heldBytes: 0, refused: 0 });
});

test('a wait ends with the connection that it was for', async () => {
  await bench.call('POST', `${E}/groups`, { body: { name: 'x' } });
  const run = await addRun();
  const going = new AbortController();
  const held = http('GET', `${run}/progress?wait=25`, bench.token, { signal: going.signal });
  await until(() => bench.api.waiting === 1);
  going.abort();
  await expect(held).rejects.toThrow('abort');
  await until(() => bench.api.waiting === 0 && traffic.requests === 0);
});

test('refusals are problem+json, and say which request it was', async () => {
  const answer = await http('GET', `${E}/runs?x=1`, 'hwt_wrong');
  expect(answer.status).toBe(401);
  expect(answer.headers.get('content-type')).toBe('application/problem+json');
  expect(answer.headers.get('www-authenticate')).toBe('Bearer');
  const problem = fields(await answer.json());
  expect(problem).toMatchObject({ code: 'TokenInvalid', status: 401 });
  expect(problem['trackingId']).toMatch(/^[0-9a-f-]{36}$/);
});

test('HEAD and OPTIONS are answered', async () => {
  const head = await fetch(`${origin}/$api/v1/openapi.json`, { method: 'HEAD' });
  expect(head.status).toBe(200);
  const whole = await (await fetch(`${origin}/$api/v1/openapi.json`)).text();
  expect(Number(head.headers.get('content-length'))).toBe(Buffer.byteLength(whole));
  const options = await fetch(`${origin}${E}/runs`, { method: 'OPTIONS' });
  expect([options.status, options.headers.get('allow')]).toEqual([204, 'GET, HEAD, OPTIONS, POST']);
  expect(options.headers.get('access-control-allow-origin')).toBeNull();
});

test('echo says what has arrived, and nothing that may be secret', async () => {
  const answer = await http('PUT', '/$api/v1/echo', 'hwt_hush', {
    body: 'abc',
    headers: { cookie: 'hush', via: '1.1 proxy' },
  });
  const text = await answer.text();
  expect(JSON.parse(text)).toMatchObject({
    method: 'PUT',
    remoteAddress: '127.0.0.1',
    headers: { via: '1.1 proxy' },
    bodyBytes: 3,
  });
  expect(text).not.toContain('hush');
});

async function addRun(): Promise<string> {
  const machine = await addMachine(bench);
  const envelope = {
    v: 1,
    suite: 'p256',
    kid: machine.kid,
    enc: 'e'.repeat(87),
    ct: 'c'.repeat(64),
  };
  const target = { kind: 'machine', id: machine.id };
  await bench.call('POST', `${E}/connections`, { body: { id: 'c1', name: 'c', target, envelope } });
  const job = { ref: 'x', kind: 'command', command: ['true'] };
  const asked = await bench.call('POST', `${E}/runs`, { body: { connectionId: 'c1', job } });
  return `${E}/runs/${textField(asked.json, 'id')}`;
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise(resolve => void setImmediate(resolve));
}
