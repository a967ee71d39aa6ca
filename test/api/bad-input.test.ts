import { gzipSync } from 'node:zlib';
import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { LOG_CHUNK_BYTES_MAX } from '../../src/jobs/limits.ts';
import { StoreError } from '../../src/store/relay-store.ts';
import { openMemoryDispatchStore } from '../../src/store/memory-dispatch-store.ts';
import { silentLogger } from '../support/silent-logger.ts';
import {
  addMachine,
  apiBench,
  E,
  fields,
  requestOf,
  got,
  type ApiBench,
  type RegisteredMachine,
} from './api-bench.ts';

let bench: ApiBench;
let machine: RegisteredMachine;

beforeAll(async () => {
  bench = await apiBench();
  machine = await addMachine(bench);
  await machine.hello();
});

function errorsOf(json: unknown): readonly string[] {
  const { errors } = fields(json);
  if (!Array.isArray(errors)) return [];
  return errors.map((error: unknown) => String(fields(error)['path']));
}

describe('paths', () => {
  test.each([
    '/$api',
    '/$api/',
    '/$api/v2/me',
    '/$api/v1',
    '/$api/v1/',
    '/$api/v1/me/',
    '/$api/v1//me',
    '/$api/v1/ME',
    '/$api/v1/../v1/me',
    '/$api/v1/%2e%2e/v1/me',
    '/$api/v1/environments/./machines',
    '/$api/v1/environments/dev/machines/%2E%2E',
    '/$api/v1/environments/dev%00/machines',
    '/$api/v1/environments/dev/machines/a%00b',
    '/$api/v1/environments/dev/machines/a%2Fb',
    '/$api/v1/environments/dev/machines/%zz',
    '/$api/v1/environments/dev/machines/%c3%28',
    '/$api/v1/environments/dev/machines/%F0%9F%92%A5',
    `/$api/v1/environments/dev/machines/${'a'.repeat(65)}`,
    '/$api/v1/environments/DEV/machines',
    '/$api/v1/environments/~/machines',
    '/$api/v1/environments/-dev/machines',
    '/$api/v1/environments/dev/machines/a:',
    '/$api/v1/environments/dev/machines/:drain',
    '/$api/v1/environments/dev/machines/a:drain:drain',
    '/$api/v1/environments/dev/machines/a/access/ann',
    '/$api/v1/environments/dev/machines/a/access/user:',
    '/$api/v1/environments/dev/machines/a/access/user%3Aann%3Abob',
    '/$api/v1/environments/dev/agent/runs/a/attempts/0/start',
    '/$api/v1/environments/dev/agent/runs/a/attempts/1.5/start',
    '/$api/v1/environments/dev/agent/runs/a/attempts/-1/start',
    '/$api/v1/__proto__',
    '/$api/v1/constructor',
  ])('%s leads nowhere', async path => {
    for (const method of ['GET', 'POST', 'PUT', 'OPTIONS']) {
      const answer = await bench.call(method, path);
      expect(answer).toMatchObject({ status: 404, json: { code: 'NotFound' } });
    }
  });

  test.each([
    ['%65nvironments/dev', 200],
    ['environments/d%65v', 200],
    ['environments/dev/machines/x%3Adrain', 405],
    ['environments/other', 404],
    ['environments/dev/machines/constructor', 404],
    ['environments/dev/runs/__proto__', 404],
  ])('%s is decoded once: %i', async (path, status) => {
    expect((await bench.call('GET', `/$api/v1/${path}`)).status).toBe(status);
  });

  test('a method that is not taken is told which are', async () => {
    const answer = await bench.call('DELETE', `${E}/runs`);
    expect(answer).toMatchObject({
      status: 405,
      headers: { Allow: 'GET, HEAD, OPTIONS, POST' },
      json: { code: 'MethodNotAllowed', status: 405 },
    });
    const options = await bench.call('OPTIONS', `${E}/runs`, { token: undefined });
    expect(options).toMatchObject({ status: 204, headers: { Allow: 'GET, HEAD, OPTIONS, POST' } });
    expect((await bench.call('TRACE', `${E}/runs`)).status).toBe(405);
    expect((await bench.call('get', `${E}/runs`)).status).toBe(405);
  });
});

describe('tokens', () => {
  test.each([
    undefined,
    '',
    'Bearer',
    'Bearer ',
    'Basic YTpi',
    'Bearer hwt_short',
    `Bearer hwt_${'a'.repeat(43)}`,
    'Bearer hwm_',
    'Bearer hwm_a.b.c',
    'Bearer hwm_e30.AAAA',
    `Bearer ${'x'.repeat(5_000)}`,
    'Bearer a, Bearer b',
  ])('%s is none', async authorization => {
    const headers = authorization === undefined ? {} : { authorization };
    const answer = await bench.call('GET', '/$api/v1/me', { token: undefined, headers });
    expect(answer).toMatchObject({ status: 401, json: { code: 'TokenInvalid' } });
    expect(answer.headers['WWW-Authenticate']).toBe('Bearer');
  });

  test('of machines are good for themselves, in their environment, for a quarter of an hour', async () => {
    const { token, id } = machine;
    await bench.call('POST', '/$api/v1/environments', { body: { id: 'other' } });
    const body = { fence: 1 };
    const elsewhere = '/$api/v1/environments/other/agent/runs/r/attempts/1/start-interrupted';
    expect(await bench.call('PUT', elsewhere, { token, body })).toMatchObject({ status: 404 });
    const other = await addMachine(bench, { installId: 'install-9' });
    const look = await bench.call('GET', `${E}/machines/${other.id}`, { token });
    expect(look).toMatchObject({ status: 403, json: { code: 'AccessDenied' } });
    const removal = await bench.call('DELETE', `${E}/machines/${other.id}`, { token });
    expect(removal.status).toBe(403);
    const hello = await machine.hello({ machineId: other.id });
    expect(hello).toMatchObject({ status: 400, json: { errors: [{ path: 'machineId' }] } });
    const late = await apiBench();
    const theirs = await addMachine(late);
    late.clock.advance(16 * 60_000);
    const answer = await late.call('GET', `${E}/machines/${theirs.id}`, { token: theirs.token });
    expect(answer.status).toBe(401);
    expect((await bench.call('GET', `${E}/machines/${id}`, { token })).status).toBe(200);
  });

  test('of users who have no role in an environment do not show that it is there', async () => {
    await bench.call('POST', '/$api/v1/users', { body: { id: 'eve' } });
    const made = await bench.call('POST', '/$api/v1/tokens', {
      body: { name: 'eve', user: 'user:eve' },
    });
    const { token } = fields(made.json);
    const eve = { token: String(token) };
    const there = await bench.call('GET', `${E}/machines`, eve);
    const nowhere = await bench.call('GET', '/$api/v1/environments/nowhere/machines', eve);
    expect(there.status).toBe(404);
    expect(nowhere.status).toBe(404);
    expect(
      (await bench.call('POST', '/$api/v1/environments', { ...eve, body: { id: 'x' } })).status,
    ).toBe(403);
    expect(
      (await bench.call('PATCH', '/$api/v1/users/eve', { ...eve, body: { isDisabled: true } }))
        .status,
    ).toBe(403);
  });
});

describe('queries', () => {
  test.each([
    ['runs?limit=0', ['query.limit']],
    ['runs?limit=201', ['query.limit']],
    ['runs?limit=-1', ['query.limit']],
    ['runs?limit=1e2', ['query.limit']],
    ['runs?limit=%201', ['query.limit']],
    ['runs?limit=', ['query.limit']],
    ['runs?limit=1&limit=2', ['query.limit']],
    [
      'runs?state=queued&machineId=a/b&owner=ann',
      ['query.state', 'query.machineId', 'query.owner'],
    ],
    ['runs?__proto__=1&constructor=2', ['query.__proto__', 'query.constructor']],
    ['runs?after=', ['query.after']],
    ['runs?after=nonsense', ['after']],
    ['runs?after=MWU5OTkgeA', ['after']],
    ['runs/r/events?wait=26', ['query.wait']],
    ['runs/r/events?after=-1', ['query.after']],
    ['runs/r/events?limit=99999999999999999999', ['query.limit']],
    ['connections?targetKind=cluster', ['query.targetKind']],
    ['connections?targetKind=machine', ['query.targetId']],
    ['connections?targetId=a', ['query.targetKind']],
    ['audit?after=x', ['query.after']],
  ])('%s is refused', async (target, paths) => {
    const answer = await bench.call('GET', `${E}/${target}`);
    expect(answer).toMatchObject({ status: 400, json: { code: 'RequestMalformed' } });
    expect(errorsOf(answer.json)).toEqual(paths);
  });
});

describe('If-Match', () => {
  test.each([
    [undefined, 428],
    ['"1"', 200],
    ['"2"', 412],
    ['"01"', 200],
    ['W/"1"', 412],
    ['"abc"', 412],
    ['*', 400],
    ['1', 400],
    ['"1", "2"', 400],
    ['', 400],
    ['"99999999999999999999"', 412],
    ['"-1"', 412],
    ['"1', 400],
  ])('%s on a record of version 1 gives %i', async (value, status) => {
    const fresh = await apiBench();
    const headers = value === undefined ? {} : { 'if-match': value };
    const answer = await fresh.call('PATCH', E, { headers, body: { displayName: 'x' } });
    expect(answer.status).toBe(status);
  });
});

describe('Idempotency-Key', () => {
  const body = { name: 'desks' };

  test.each(['', ' a', 'a ', 'ü', 'a\u0001b', 'a'.repeat(257)])('%j is refused', async key => {
    const headers = { 'idempotency-key': key };
    const answer = await bench.call('POST', `${E}/groups`, { headers, body });
    expect(answer.status).toBe(400);
    expect(errorsOf(answer.json)).toEqual(['Idempotency-Key']);
  });

  test.each(['a', '"quoted"', 'a b', 'a'.repeat(256)])('%j makes one thing', async key => {
    const headers = { 'idempotency-key': key };
    const first = await bench.call('POST', `${E}/groups`, { headers, body });
    const second = await bench.call('POST', `${E}/groups`, { headers, body });
    expect(second.json).toEqual(first.json);
    const other = await bench.call('POST', `${E}/groups`, { headers, body: { name: 'x' } });
    expect(other).toMatchObject({ status: 422, json: { code: 'IdempotencyKeyReused' } });
  });
});

describe('bodies', () => {
  const json = { 'content-type': 'application/json' };
  const post = (body: unknown, headers: Record<string, string> = json) =>
    bench.call('POST', `${E}/groups`, { body, headers });

  test.each([
    ['', 'a JSON body is needed'],
    ['{', 'is not JSON'],
    ['{"name":"a"}}', 'is not JSON'],
    ["{'name':'a'}", 'is not JSON'],
    ['null', 'must be a JSON object'],
    ['"name"', 'must be a JSON object'],
    ['[{"name":"a"}]', 'must be a JSON object'],
    ['{"name":"a","name2":1}', 'is not known here'],
    ['{"__proto__":{"name":"a"}}', 'is missing'],
    ['{"name":"a\\u0000b"}', 'must have no control characters'],
    [Buffer.from([0x7b, 0xff, 0x7d]), 'is not UTF-8'],
    [`{"name":${'['.repeat(100)}${']'.repeat(100)}}`, 'nested deeper'],
    [`${'['.repeat(30_000)}${']'.repeat(30_000)}`, 'nested deeper'],
  ])('%j is refused', async (body, message) => {
    const answer = await post(body);
    expect(answer.status).toBe(400);
    expect(answer.text).toContain(message);
  });

  test.each([
    { 'content-type': 'text/plain' },
    { 'content-type': 'application/jsonx' },
    { 'content-type': 'application/json; charset=latin1' },
    { 'content-type': 'multipart/form-data' },
    { 'content-type': '' },
    { ...json, 'content-encoding': 'br' },
  ])('of another type (%j) are refused', async headers => {
    expect(await post('{"name":"a"}', headers)).toMatchObject({
      status: 415,
      json: { code: 'UnsupportedMediaType' },
    });
  });

  test('of the type are taken, however it is written', async () => {
    const headers = { 'content-type': 'Application/JSON ; Charset="UTF-8"' };
    expect((await post('\ufeff{"name":"a"}', headers)).status).toBe(201);
  });

  test('have all their faults told at once, with those of query and headers', async () => {
    const answer = await bench.call('POST', `${E}/runs?a=1`, {
      headers: { 'idempotency-key': '' },
      body: {
        connectionId: 'a/b',
        job: { ref: '', kind: 'virus' },
        priority: 'highest',
        timeoutSeconds: 0,
        extra: 1,
        extra2: 2,
      },
    });
    expect(answer.status).toBe(400);
    expect(errorsOf(answer.json).toSorted()).toEqual([
      'Idempotency-Key',
      'connectionId',
      'extra',
      'extra2',
      'job.kind',
      'job.ref',
      'priority',
      'query.a',
      'timeoutSeconds',
    ]);
  });

  test('are never said again', async () => {
    const secret = 'hunter2hunter2';
    for (const body of [
      { id: 'c', name: 'x', target: secret, kind: secret },
      { id: 'c', name: { password: secret } },
      { id: 'c', name: 'x', target: { kind: 'machine', id: machine.id, p: secret } },
    ]) {
      const answer = await bench.call('POST', `${E}/connections`, { body });
      expect(answer.status).toBe(400);
      expect(answer.text).not.toContain(secret);
    }
  });

  test('with a credential in the clear, however deep, are refused for that', async () => {
    const envelope = {
      v: 1,
      suite: 'p256',
      kid: machine.kid,
      enc: 'e'.repeat(87),
      ct: 'c'.repeat(64),
    };
    const target = { kind: 'machine', id: machine.id };
    const base = { id: 'c9', name: 'x', target, envelope };
    for (const [body, path] of [
      [{ ...base, password: 'x' }, 'password'],
      [{ ...base, credential: { user: 'a', PassWord: 'x' } }, 'credential'],
      [{ ...base, envelope: { ...envelope, 'user-password': 'x' } }, 'envelope.user-password'],
      [
        { ...base, target: { ...target, more: [{ client_secret: 'x' }] } },
        'target.more[0].client_secret',
      ],
    ] as const) {
      const answer = await bench.call('POST', `${E}/connections`, { body });
      expect(answer).toMatchObject({
        status: 400,
        json: { code: 'PlaintextCredentialRefused', errors: [{ path }] },
      });
    }
  });

  test('that would be too large a record are refused, not broken on', async () => {
    const numbers = Array.from({ length: 300_000 }, () => '1e20').join(',');
    const job = `{"ref":"x","kind":"simulated","script":{"a":[${numbers}]}}`;
    const body = `{"connectionId":"c1","job":${job}}`;
    const answer = await bench.call('POST', `${E}/runs`, { body, headers: json });
    expect(answer).toMatchObject({ status: 400, json: { code: 'RequestMalformed' } });
  });
});

describe('log chunks', () => {
  test('that unzip to more than a chunk may be are not unzipped', async () => {
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024));
    expect(bomb.length).toBeLessThan(LOG_CHUNK_BYTES_MAX);
    expect(await send(bomb, { 'content-encoding': 'gzip' })).toMatchObject({
      status: 400,
      json: { code: 'RequestMalformed' },
    });
  });

  test('that are no gzip, or too long, or zipped otherwise are refused', async () => {
    const noise = Buffer.from('noise');
    expect((await send(noise, { 'content-encoding': 'gzip' })).status).toBe(400);
    expect((await send(noise, { 'content-encoding': 'br' })).status).toBe(415);
    expect((await send(noise, { 'content-type': 'text/plain' })).status).toBe(415);
    expect((await send(Buffer.alloc(LOG_CHUNK_BYTES_MAX + 1), {})).status).toBe(413);
    expect((await send(Buffer.alloc(LOG_CHUNK_BYTES_MAX), {})).status).toBe(404);
    const query = 'offset=-1&fence=0&sha256=xyz';
    const answer = await send(noise, {}, query);
    expect(errorsOf(answer.json)).toEqual(['query.offset', 'query.fence', 'query.sha256']);
  });
});

describe('failures', () => {
  test('of the store are told as such, without saying what it said', async () => {
    const store = openMemoryDispatchStore();
    const warnings: unknown[] = [];
    const log = { ...silentLogger, warn: (fields_: object) => void warnings.push(fields_) };
    const { call } = await apiBench(store, log);
    store.get = () => Promise.reject(new StoreError('redis://secret@host is away'));
    const answer = await call('GET', E);
    expect(answer).toMatchObject({
      status: 503,
      headers: { 'Retry-After': '2' },
      json: { code: 'StoreUnavailable' },
    });
    expect(answer.text).not.toContain('redis');
    expect(warnings).toHaveLength(1);
  });

  test('of what was kept are logged without what was kept', async () => {
    const store = openMemoryDispatchStore();
    const errors: object[] = [];
    const log = { ...silentLogger, error: (about: object) => void errors.push(about) };
    const { call } = await apiBench(store, log);
    store.log = () =>
      Promise.resolve({ first: 1, entries: [{ number: 1, text: '{"atMs":"hush"}' }] });
    expect((await call('GET', `${E}/audit`)).status).toBe(500);
    expect(errors).toHaveLength(1);
    const [about] = errors;
    const { err } = fields(about);
    if (!(err instanceof Error)) throw new Error('no error was logged');
    expect(`${err.stack} ${JSON.stringify(err)}`).not.toContain('hush');
    expect(err.message).toContain('atMs');
    expect(err.stack).toMatch(/readAudit/);
  });

  test('of ours are logged once with the tracking id, and without what was sent', async () => {
    const store = openMemoryDispatchStore();
    const errors: object[] = [];
    const log = { ...silentLogger, error: (about: object) => void errors.push(about) };
    const { api, token } = await apiBench(store, log);
    store.get = () => Promise.reject(new TypeError('a bug'));
    const path = '/$api/v1/users/hush';
    const request = requestOf('PATCH', path, { token, body: { isDisabled: true } });
    const answer = await got(await api.handle(request));
    expect(answer).toMatchObject({ status: 500, json: { code: 'InternalError' } });
    expect(answer.text).not.toContain('a bug');
    const { trackingId } = fields(answer.json);
    expect(errors).toMatchObject([{ trackingId, method: 'PATCH', operation: '/users/{id}' }]);
    expect(JSON.stringify(errors)).not.toMatch(/hush|isDisabled|hwt_/);
  });
});

function send(
  bytes: Uint8Array,
  headers: Record<string, string>,
  query?: string,
): ReturnType<ApiBench['call']> {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const about = query ?? `offset=0&fence=1&sha256=${sha256}`;
  return bench.call('POST', `${E}/agent/runs/r1/attempts/1/logs?${about}`, {
    token: machine.token,
    body: bytes,
    headers: { 'content-type': 'application/octet-stream', ...headers },
  });
}
