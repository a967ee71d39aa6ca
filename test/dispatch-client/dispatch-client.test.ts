import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { newScalar, openingKeyOf } from '../../src/crypto/key-pair.ts';
import { openEnvelope } from '../../src/crypto/open-envelope.ts';
import { encodeBase64Url } from '../../src/crypto/base64url.ts';
import { accountOf, DispatchClient, sealInput } from '../../src/dispatch-client/dispatch.ts';
import { targetKeyOf } from '../../src/dispatch-client/sealing.ts';
import { portOf } from '../cli/port-of.ts';
import { quickClock } from '../support/quick-clock.ts';

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

let answer: Answer;
const asked: string[] = [];
const server = createServer((request, response) => {
  asked.push(`${request.method} ${request.url}`);
  request.resume();
  answer(request, response);
});
let client: DispatchClient;
beforeAll(async () => {
  await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
  client = new DispatchClient({
    endpoint: `http://127.0.0.1:${portOf(server)}`,
    token: 'hwt_x',
    environment: 'dev',
    clock: quickClock(20),
  });
});
afterEach(() => {
  asked.length = 0;
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise(resolve => void server.close(resolve));
});

const E = '/$api/v1/environments/dev';

function json(body: unknown, status = 200): Answer {
  return (_request, response) => void response.writeHead(status).end(JSON.stringify(body));
}

const cut: Answer = (_request, response) => void response.destroy();

function inTurn(...answers: readonly Answer[]): Answer {
  const left = [...answers];
  return (request, response) => (left.shift() ?? cut)(request, response);
}

const MACHINE = { id: 'm1', name: 'desk', version: 3, somethingNew: { a: 1 } };

describe('DispatchClient', () => {
  test('keeps what a newer server says besides', async () => {
    answer = json(MACHINE);
    expect(await client.machines.get('m 1')).toEqual(MACHINE);
    expect(asked).toEqual([`GET ${E}/machines/m%201`]);
  });

  test('reads page after page, and no more than are asked for', async () => {
    answer = inTurn(
      json({ items: [MACHINE], next: 'x' }),
      json({ items: [], next: 'y' }),
      json({ items: [{ ...MACHINE, id: 'm2' }] }),
    );
    const ids = (await client.machines.list()).map(({ id }) => id);
    expect(ids).toEqual(['m1', 'm2']);
    expect(asked).toEqual([
      `GET ${E}/machines?limit=200`,
      `GET ${E}/machines?limit=200&after=x`,
      `GET ${E}/machines?limit=200&after=y`,
    ]);
    answer = json({ items: [MACHINE], next: 'x' });
    for await (const { id } of client.machines.all()) {
      expect(id).toBe('m1');
      break;
    }
    expect(asked).toHaveLength(4);
  });

  test('tries again what may be tried again, with the same key', async () => {
    const keys: unknown[] = [];
    answer = (request, response) => {
      keys.push(request.headers['idempotency-key']);
      (keys.length < 3 ? cut : json({ ...RUN, id: 'r1' }, 202))(request, response);
    };
    expect(await client.runs.create({ connectionId: 'c1' })).toMatchObject({ id: 'r1' });
    expect(new Set(keys).size).toBe(1);
    expect(keys).toHaveLength(3);
  });

  test('tries nothing twice that could be done twice', async () => {
    answer = cut;
    await expect(client.tokens.create({ name: 'ci' })).rejects.toMatchObject({
      code: 'Unreachable',
    });
    await expect(client.machines.delete('m1', 3)).rejects.toMatchObject({ code: 'Unreachable' });
    expect(asked).toEqual(['POST /$api/v1/tokens', `DELETE ${E}/machines/m1`]);
  });

  test('tries again while the store is away, and then says so', async () => {
    answer = json({ code: 'StoreUnavailable', detail: 'later', trackingId: 't' }, 503);
    const failed = client.machines.get('m1');
    await expect(failed).rejects.toMatchObject({ code: 'StoreUnavailable', trackingId: 't' });
    expect(asked).toHaveLength(3);
  });

  test('tells code, faults and when to come again', async () => {
    const errors = [{ path: 'name', message: 'must be a text' }];
    answer = (_request, response) => {
      response.writeHead(429, { 'Retry-After': '7' });
      response.end(JSON.stringify({ title: 'T', detail: 'D', code: 'QueueFull', errors }));
    };
    await expect(client.groups.create({})).rejects.toMatchObject({
      code: 'QueueFull',
      message: 'D',
      status: 429,
      faults: errors,
      retryAfterSeconds: 7,
    });
  });

  test.each([
    ['no JSON', (_: unknown, response: ServerResponse) => void response.end('<html>')],
    ['another shape', json({ id: 7 })],
    ['a page of something else', json({ code: 'x' }, 301)],
  ])('an answer with %s is not taken for one', async (_what, given) => {
    answer = given;
    await expect(client.machines.get('m1')).rejects.toMatchObject({
      code: expect.stringMatching(/AnswerUnreadable|^x$/),
    });
  });

  test('follows a log through outages to its end', async () => {
    answer = inTurn(
      json({ items: [piece(1, 'a'), piece(2, 'b')], next: 2, isOver: false }),
      cut,
      cut,
      cut,
      cut,
      json({ items: [], next: 2, isOver: false }),
      json({ items: [piece(5, 'c')], next: 5, isOver: true }),
    );
    const texts: string[] = [];
    for await (const { bytes } of client.runs.logs('r1', { follow: true })) {
      texts.push(String(bytes));
    }
    expect(texts).toEqual(['a', 'b', 'c']);
    expect(asked.at(-1)).toBe(`GET ${E}/runs/r1/logs?after=2&wait=20`);
  });

  test('a wait that is given up ends at once', async () => {
    const stop = new AbortController();
    answer = () => stop.abort();
    const waiting = client.runs.ended('r1', stop.signal);
    await expect(waiting).rejects.toMatchObject({ code: 'Aborted' });
    await expect(client.runs.ended('r1', stop.signal)).rejects.toMatchObject({ code: 'Aborted' });
  });

  test('refuses options that cannot work', () => {
    for (const endpoint of ['', 'relay', 'http://a/b', 'ftp://a']) {
      expect(() => new DispatchClient({ endpoint })).toThrow(TypeError);
    }
  });
});

function piece(number: number, text: string): object {
  return { number, attempt: 1, offset: 0, data: Buffer.from(text).toString('base64') };
}

const RUN = {
  id: 'r1',
  state: 'Queued',
  connectionId: 'c1',
  target: { kind: 'machine', id: 'm1' },
};

describe('sealInput()', () => {
  test('opens for this run and name alone; its length does not show', async () => {
    const key = await openingKeyOf(await newScalar());
    const who = { tenant: 'default', environment: 'dev', kind: 'group', id: 'g1' } as const;
    const point = encodeBase64Url(key.point);
    const target = await targetKeyOf({ ...who, kid: key.kid }, { suite: 'p256', point });
    const envelope = await sealInput(target, { runId: 'r1', name: 'pin' }, { a: ['ü', 1] });
    const open = (runId: string, name: string) =>
      openEnvelope([key], who, { type: 'input', runId, name }, envelope);
    const plaintext = await open('r1', 'pin');
    expect(plaintext).toHaveLength(256);
    expect(JSON.parse(Buffer.from(plaintext).toString())).toEqual({ a: ['ü', 1] });
    expect(await open('r2', 'pin')).toBe('CredentialContextMismatch');
    expect(await open('r1', 'pin2')).toBe('CredentialContextMismatch');
  });
});

describe('targetKeyOf()', () => {
  test('refuses what is no point, and a point that is not what its id says', async () => {
    const [key, other] = await Promise.all([1, 2].map(async () => openingKeyOf(await newScalar())));
    if (key === undefined || other === undefined) throw new Error('no keys');
    const holder = {
      tenant: 't',
      environment: 'e',
      kind: 'machine',
      id: 'm',
      kid: key.kid,
    } as const;
    const wrong = Uint8Array.from(key.point);
    wrong[64] = (wrong[64] ?? 0) ^ 1;
    const points = [other.point, wrong, key.point.subarray(1), new Uint8Array(0)];
    for (const point of points) {
      const given = { suite: 'p256', point: encodeBase64Url(point) };
      await expect(targetKeyOf(holder, given)).rejects.toMatchObject({ code: 'KeyMismatch' });
    }
    const good = { suite: 'p256', point: encodeBase64Url(key.point) };
    await expect(targetKeyOf(holder, { ...good, suite: 'x' })).rejects.toThrow();
    await expect(targetKeyOf(holder, good)).resolves.toMatchObject({ holder });
  });
});

describe('accountOf()', () => {
  test.each([
    ['OFFICE\\ann', { domain: 'OFFICE', user: 'ann' }],
    ['.\\ann', { domain: '.', user: 'ann' }],
    ['local\\ann', { domain: 'local', user: 'ann' }],
    ['ann@office.example', { domain: '', user: 'ann@office.example' }],
    ['ann', { domain: '', user: 'ann' }],
    ['a\\b\\c', undefined],
    ['\\ann', undefined],
    ['OFFICE\\', undefined],
    ['', undefined],
  ])('reads "%s"', (text, account) => {
    expect(accountOf(text)).toEqual(account);
  });
});
