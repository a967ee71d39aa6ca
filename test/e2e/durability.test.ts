// A server in a process of its own, which is killed.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, expect, test } from 'vitest';
import { at, callApi, createHybridConnection } from '../support/management.ts';
import { within } from '../support/within.ts';

const ROOT = join(import.meta.dirname, '../..');
const START_MS = 20_000;
const folder = mkdtempSync(join(tmpdir(), 'halfway-durability-'));
const children = new Set<ChildProcess>();
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

interface Served {
  readonly adminUrl: string;
  readonly kill: (signal: NodeJS.Signals) => Promise<void>;
}

/** Starts `halfway serve --data`; undefined when it ended instead, with what it wrote to standard error. */
async function serve(
  yaml: string,
): Promise<Served | { readonly err: string; readonly code: unknown }> {
  const config = join(folder, 'halfway.yaml');
  writeFileSync(config, yaml);
  const ports = ['--port', '0', '--admin-port', '0', '--host', '127.0.0.1'];
  const args = ['serve', '--config', config, '--data', join(folder, 'data'), ...ports];
  const child = spawn(process.execPath, ['--import', 'tsx', 'src/main.ts', ...args], {
    cwd: ROOT,
    env: { PATH: process.env['PATH'] },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  let err = '';
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const ended = once(child, 'close');
  const listening = new Promise<number>(resolve => {
    createInterface({ input: child.stdout }).on('line', line => {
      const entry: unknown = JSON.parse(line);
      if (at(entry, 'msg') === 'listening') resolve(Number(at(entry, 'adminPort')));
    });
  });
  const port = await within(
    'the start',
    Promise.race([listening, ended.then(() => undefined)]),
    START_MS,
  );
  if (port === undefined) return { err, code: child.exitCode };
  return {
    adminUrl: `http://127.0.0.1:${port}`,
    kill: async signal => {
      child.kill(signal);
      await ended;
    },
  };
}

async function started(yaml: string): Promise<Served> {
  const served = await serve(yaml);
  if ('err' in served) throw new Error(served.err);
  return served;
}

const FILE = 'drainDelayMs: 0\nnamespaces: [{ name: tests }]\n';
const FILE_WITH_ORDERS =
  'namespaces: [{ name: tests, hybridConnections: [{ name: Orders, userMetadata: file }] }]\n';

test('what was answered with 201 is there after kill -9, and a second server keeps off meanwhile', async () => {
  const first = await started(FILE);
  const rule = { properties: { rights: ['Listen'], primaryKey: 'durable-key' } };
  for (let i = 0; i < 20; i += 1) await createHybridConnection(first, `other${i}`);
  await callApi(first, 'DELETE', '/hybridConnections/other0');
  await createHybridConnection(first, 'orders', { userMetadata: 'api' });
  const second = await serve(FILE);
  expect(second).toMatchObject({
    err: expect.stringContaining('another process holds it'),
    code: 1,
  });

  const made = await callApi(first, 'PUT', '/hybridConnections/orders/authorizationRules/last', {
    body: rule,
  });
  await first.kill('SIGKILL');
  expect(made.status).toBe(201);

  const again = await started(FILE);
  const found = await callApi(again, 'GET', '/hybridConnections/orders');
  expect(found.body).toMatchObject({ properties: { userMetadata: 'api', definedBy: 'api' } });
  const path = '/hybridConnections/orders/authorizationRules/last';
  expect((await callApi(again, 'GET', path)).etag).toBe(made.etag);
  const keys = await callApi(again, 'POST', `${path}/listKeys`);
  expect(keys.body).toMatchObject({ primaryKey: 'durable-key' });
  expect((await callApi(again, 'GET', '/hybridConnections/other0')).status).toBe(404);
  expect((await callApi(again, 'GET', '/hybridConnections/other19')).status).toBe(200);
  await again.kill('SIGTERM');

  // The file claims a name that the store has, too.
  const shadowed = await started(FILE_WITH_ORDERS);
  const { body } = await callApi(shadowed, 'GET', '/hybridConnections/orders');
  expect(body).toMatchObject({
    name: 'Orders',
    properties: { userMetadata: 'file', definedBy: 'config-file' },
  });
  expect((await callApi(shadowed, 'GET', path)).status).toBe(404);
  await shadowed.kill('SIGKILL');
  const back = await started(FILE);
  const own = await callApi(back, 'GET', '/hybridConnections/orders');
  expect(own.body).toMatchObject({ properties: { userMetadata: 'api', definedBy: 'api' } });
  await back.kill('SIGKILL');
}, 90_000);
