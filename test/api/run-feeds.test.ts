import { createHash } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import {
  addMachine,
  apiBench,
  E,
  fields,
  textField,
  type ApiBench,
  type Got,
} from './api-bench.ts';
import { settled } from '../support/fake-machines.ts';

let bench: ApiBench;
let token: string;
let run: string;

/** A run that has begun on a machine. */
beforeEach(async () => {
  bench = await apiBench();
  await bench.plane.dispatcher.start();
  const machine = await addMachine(bench);
  ({ token } = machine);
  await machine.hello();
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
  run = textField(asked.json, 'id');
  await settled();
  await bench.call('PUT', `${attempt()}/start`, { token, body: { fence: 1, instance: 'i1' } });
  await bench.plane.dispatcher.stop();
});

function attempt(): string {
  return `${E}/agent/runs/${run}/attempts/1`;
}

async function log(text: string, offset: number): Promise<Got> {
  const body = Buffer.from(text);
  const sha256 = createHash('sha256').update(body).digest('hex');
  const path = `${attempt()}/logs?offset=${offset}&fence=1&sha256=${sha256}`;
  const headers = { 'content-type': 'application/octet-stream' };
  return bench.call('POST', path, { token, body, headers });
}

function end(status = 'Succeeded', more: object = {}): Promise<Got> {
  const body = { v: 1, type: 'result', runId: run, attempt: 1, fence: 1, status, ...more };
  return bench.call('PUT', `${attempt()}/result`, { token, body });
}

function feed(name: string, query = '', accept = '*/*'): Promise<Got> {
  return bench.call('GET', `${E}/runs/${run}/${name}${query}`, { headers: { accept } });
}

test('a log is read from where the reader was, held until there is more, and ends with the run', async () => {
  const first = feed('logs', '?wait=25');
  await settled();
  expect(bench.api.waiting).toBe(1);
  await log('one ', 0);
  const data = Buffer.from('one ').toString('base64');
  expect((await first).json).toEqual({
    items: [{ number: 1, attempt: 1, offset: 0, data }],
    next: 1,
    isOver: false,
  });
  const second = feed('logs', '?after=1&wait=25');
  await settled();
  await end();
  expect((await second).json).toEqual({ items: [], next: 1, isOver: true });
  expect(bench.api.waiting).toBe(0);
  // What comes late is there for who looks again.
  await log('two', 4);
  expect((await feed('logs', '?after=1')).json).toMatchObject({ next: 2, isOver: true });
  expect((await feed('logs', '', 'text/plain')).text).toBe('one two');
  expect((await feed('logs', '?after=1', 'text/plain;q=1, */*')).text).toBe('two');
});

test('a wait ends when its time is over', async () => {
  const held = feed('progress', '?wait=5');
  await settled();
  bench.clock.advance(5_000);
  expect((await held).json).toEqual({ items: [], next: 0, isOver: false });
});

test('a feed is not over while something lies behind what was given', async () => {
  await log('a', 0);
  await log('b', 1);
  await end();
  const first = await feed('logs', '?limit=1');
  expect(first.json).toMatchObject({ next: 1, isOver: false });
  const second = await feed('logs', '?limit=1&after=1');
  expect(second.json).toMatchObject({ next: 2, isOver: false });
  expect((await feed('logs', '?limit=1&after=2')).json).toMatchObject({ items: [], isOver: true });
});

test('a long log is one text, however many chunks it has', async () => {
  let expected = '';
  for (let line = 0; line < 40; line += 1) {
    await log(`line ${line}\n`, expected.length);
    expected += `line ${line}\n`;
  }
  const got = await feed('logs', '', 'text/plain');
  expect(got.headers['Content-Type']).toBe('text/plain; charset=utf-8');
  expect(got.text).toBe(expected);
});

test('outputs longer than a part come whole, whatever characters they are cut in', async () => {
  const outputs = { a: `x${'💥'.repeat(700_000)}` };
  expect((await end('Succeeded', { outputs })).status).toBe(204);
  const got = await feed('outputs');
  expect(got.json).toEqual({ outputs, sealedOutputs: {} });
});

test('a run that is not there has no feeds', async () => {
  for (const name of ['events', 'progress', 'logs', 'outputs', 'input']) {
    const got = await bench.call('GET', `${E}/runs/nothing/${name}`);
    expect(got).toMatchObject({ status: 404, json: { code: 'NotFound' } });
  }
});

test('what is held is answered when the server stops', async () => {
  const held = feed('progress', '?wait=25');
  await settled();
  bench.api.close();
  expect((await held).status).toBe(200);
});

test('machines with an old attempt hear that they lost it', async () => {
  const about = { token, body: { fence: 7, isLaunched: true } };
  const renewed = await bench.call('PUT', `${attempt()}/renew`, about);
  expect(renewed).toMatchObject({ status: 409, json: { code: 'LeaseLost' } });
  await bench.call('POST', `${E}/runs/${run}:cancel`);
  const told = await bench.call('PUT', `${attempt()}/renew`, {
    token,
    body: { fence: 1, isLaunched: true },
  });
  expect(fields(told.json)['cancel']).toEqual({ mode: 'stop', graceSeconds: 10 });
});

test('any request of a machine is a sign of life', async () => {
  bench.clock.advance(80_000);
  const path = `${E}/machines`;
  expect((await bench.call('GET', path)).json).toMatchObject({
    items: [{ presence: { state: 'Stale' } }],
  });
  await bench.call('PUT', `${attempt()}/renew`, { token, body: { fence: 1, isLaunched: true } });
  expect((await bench.call('GET', path)).json).toMatchObject({
    items: [{ presence: { state: 'Connected' } }],
  });
});
