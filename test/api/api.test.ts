import { gzipSync } from 'node:zlib';
import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { addMachine, apiBench, E, fields, textField, type ApiBench } from './api-bench.ts';
import { settled } from '../support/fake-machines.ts';

async function addConnection(bench: ApiBench, machine: { id: string; kid: string }): Promise<void> {
  const { caller } = await bench.plane.environments.enter(
    { name: 'token:bootstrap', isAdmin: true },
    'dev',
  );
  const envelope = {
    v: 1,
    suite: 'p256',
    kid: machine.kid,
    enc: 'e'.repeat(87),
    ct: 'c'.repeat(64),
  };
  const target = { kind: 'machine', id: machine.id };
  await bench.plane
    .in('dev')
    .connections.create(caller, { id: 'c1', name: 'bot', target, envelope });
}

test('a run goes the whole way by REST', async () => {
  const bench = await apiBench();
  await bench.plane.dispatcher.start();
  const machine = await addMachine(bench);
  const hello = await machine.hello();
  expect(hello.json).toMatchObject({ v: 1, clockSkewMs: 0, standings: [], helloEverySeconds: 30 });
  await addConnection(bench, machine);
  const asked = await bench.call('POST', `${E}/runs`, {
    body: { connectionId: 'c1', job: { ref: 'x', kind: 'command', command: ['true'] } },
  });
  expect(asked.status).toBe(202);
  const id = textField(asked.json, 'id');
  expect(asked.headers['Location']).toBe(`${E}/runs/${id}`);
  await settled();
  const attempt = `${E}/agent/runs/${id}/attempts/1`;
  const { token } = machine;
  const started = await bench.call('PUT', `${attempt}/start`, {
    token,
    body: { fence: 1, instance: 'i1', agentVersion: '1.0.0' },
  });
  expect(started.json).toMatchObject({ type: 'renewed', cancel: null });
  const bytes = Buffer.from('grüße\n');
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const logged = await bench.call('POST', `${attempt}/logs?offset=0&fence=1&sha256=${sha256}`, {
    token,
    body: gzipSync(bytes),
    headers: { 'content-type': 'application/octet-stream', 'content-encoding': 'gzip' },
  });
  expect(logged.json).toEqual({ isTaken: true, nextOffset: bytes.length, isTruncated: false });
  const about = { v: 1, runId: id, attempt: 1, fence: 1 };
  const progress = { ...about, type: 'progress', step: 'Main/1', done: 1, total: 2 };
  const noted = await bench.call('POST', `${attempt}/progress`, { token, body: progress });
  expect(noted.status).toBe(204);
  const result = { ...about, type: 'result', status: 'Succeeded', outputs: { a: '💥' } };
  const ended = await bench.call('PUT', `${attempt}/result`, { token, body: result });
  expect(ended.status).toBe(204);
  const run = await bench.call('GET', `${E}/runs/${id}`);
  expect(run.json).toMatchObject({ state: 'Succeeded', output: { bytes: expect.any(Number) } });
  const outputs = await bench.call('GET', `${E}/runs/${id}/outputs`);
  expect(outputs.json).toEqual({ outputs: { a: '💥' }, sealedOutputs: {} });
  const logs = await bench.call('GET', `${E}/runs/${id}/logs`);
  expect(logs.json).toMatchObject({ isOver: true, next: 1, items: [{ number: 1, offset: 0 }] });
  const text = await bench.call('GET', `${E}/runs/${id}/logs`, {
    headers: { accept: 'text/plain' },
  });
  expect(text.text).toBe('grüße\n');
  const steps = await bench.call('GET', `${E}/runs/${id}/progress`);
  expect(steps.json).toMatchObject({ items: [{ number: 1, step: 'Main/1', done: 1, total: 2 }] });
  const events = await bench.call('GET', `${E}/runs/${id}/events`);
  const items = fields(events.json)['items'];
  expect(Array.isArray(items) && items.map(item => textField(item, 'type'))).toEqual([
    'queued',
    'machineSelected',
    'preChecks',
    'started',
    'completed',
  ]);
  await bench.plane.dispatcher.stop();
});
