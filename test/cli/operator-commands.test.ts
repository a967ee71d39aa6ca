import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { statusText } from '../../src/cli/status.ts';
import { freePort } from '../support/ports.ts';
import { startRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';
import { commandResult, runCommand, type RunningCommand } from './run-command.ts';

const TOKEN = 'an-admin-token-for-tests';
const folder = mkdtempSync(join(tmpdir(), 'halfway-operator-'));
const CONFIG = join(folder, 'relay.json');
const TOKEN_FILE = join(folder, 'token');
writeFileSync(TOKEN_FILE, TOKEN);
writeFileSync(
  CONFIG,
  JSON.stringify({
    namespaces: [{ name: 'n' }],
    adminToken: TOKEN,
    drainDelayMs: 300,
    drainTimeoutMs: 500,
  }),
);
afterAll(() => rmSync(folder, { recursive: true }));

async function serve(): Promise<{ readonly server: RunningCommand; readonly adminUrl: string }> {
  const ports = ['--host', '127.0.0.1', '--port', '0', '--admin-port', '0'];
  const server = runCommand(['serve', '--config', CONFIG, ...ports]);
  await server.saw('"listening"');
  const { adminPort } = JSON.parse(server.out().trim().split('\n').at(-1) ?? '');
  return { server, adminUrl: `http://127.0.0.1:${adminPort}` };
}

describe('halfway status', () => {
  test('shows a relay for people, and as JSON what /status says', async () => {
    await using relay = await startRelay();
    const { out, exitCode } = await commandResult(['status', '--admin-url', relay.adminUrl]);
    expect(exitCode).toBe(0);
    expect(out).toMatch(/^test-node: ready\nversion \S+, up 0s, data plane \S+\n0 listeners/);
    expect(out).toMatch(/^HYBRID CONNECTION +LISTENERS +PAIRS +REQUESTS/m);
    expect(out).toMatch(/^tests\/hyco +0 +0 +0 +0 +0$/m);
    expect(out).not.toContain('MESH ADDRESS');

    const json = await commandResult(['status', '--json', '--admin-url', relay.adminUrl]);
    expect(JSON.parse(json.out)).toMatchObject({ node: 'test-node', ready: true, listeners: 0 });
  });

  test('--watch shows it again and again until a signal, also over a pause of the relay', async () => {
    const port = await freePort();
    const watching = runCommand(['status', '--watch', '--admin-url', `http://127.0.0.1:${port}`], {
      isTerminal: true,
    });
    await watching.saw('Cannot reach the admin port');
    const relay = await startRelay({ adminPort: port });
    await watching.saw('test-node: ready');
    await relay[Symbol.asyncDispose]();
    watching.signal('SIGINT');
    expect(await within('the end', watching.exitCode)).toBe(0);
    // Each picture begins with a clean screen.
    expect(watching.out().startsWith('\u001b[H\u001b[J')).toBe(true);
    expect(watching.err()).toBe('');
  });

  test('--watch --json prints a line each second', async () => {
    await using relay = await startRelay();
    const watching = runCommand(['status', '--watch', '--json', '--admin-url', relay.adminUrl]);
    await until('two lines', () => watching.out().split('\n').length > 2);
    watching.signal('SIGTERM');
    expect(await within('the end', watching.exitCode)).toBe(0);
    for (const line of watching.out().trim().split('\n')) {
      expect(JSON.parse(line)).toMatchObject({ node: 'test-node' });
    }
  });

  test('shows the cluster, its problems, and the workers', () => {
    const text = statusText({
      node: 'box',
      ready: false,
      reasons: ['draining'],
      uptimeSeconds: 90_061,
      hybridConnections: [],
      cluster: {
        coordinator: 'redis',
        coordinatorUp: false,
        degraded: ['coordinator-away'],
        warnings: ['mend it'],
        nodes: [
          { node: 'a', state: 'active', meshAddress: 'a:1', link: 'self', listeners: 3 },
          {
            node: 'b',
            state: 'draining',
            meshAddress: 'b:1',
            link: 'apart',
            why: 'refused by that node: wrong-secret',
            roundTripMs: 1.25,
            listeners: 0,
          },
        ],
      },
      workers: [
        { node: 'box-1', pid: 7, state: 'running', ready: true, restarts: 2 },
        { node: 'box-2', state: 'waiting', ready: false, restarts: 3 },
      ],
    });
    expect(text).toContain('box: not ready; draining\n');
    expect(text).toContain('up 1d 1h');
    expect(text).toContain('directory in Redis, which is away:');
    expect(text).toContain('\n! coordinator-away\n! mend it\n');
    expect(text).toMatch(
      /^b +draining +b:1 +apart \(refused by that node: wrong-secret\) +1\.3 ms +0$/m,
    );
    expect(text).toMatch(/^box-1 +7 +running +2$/m);
    expect(text).toMatch(/^box-2 +waiting, not ready +3$/m);
  });

  test('says that there is no relay, or that it wants a token', async () => {
    const nobody = `http://127.0.0.1:${await freePort()}`;
    const gone = await commandResult(['status', '--admin-url', nobody]);
    expect(gone).toMatchObject({ exitCode: 1, out: '' });
    expect(gone.err).toContain('Cannot reach the admin port');
    await using relay = await startRelay({ adminToken: TOKEN });
    const denied = await commandResult(['status', '--admin-url', relay.adminUrl]);
    expect(denied.exitCode).toBe(1);
    expect(denied.err).toContain('asks for its token');
  });
});

describe('halfway drain', () => {
  test('drains as SIGTERM does, and returns when the relay is gone', async () => {
    const { server, adminUrl } = await serve();
    const drain = ['drain', '--admin-url', adminUrl, '--admin-token-file', TOKEN_FILE];
    const drained = await commandResult(drain);
    expect(drained).toMatchObject({ exitCode: 0, out: 'drained\n' });
    expect(drained.err).toMatch(/^draining, at most [\d.]+ s\n$/);
    expect(await within('the end', server.exitCode)).toBe(0);
    expect(server.out()).toMatch(/"request":true[^\n]*"msg":"draining"[^]*"msg":"drained"/);
  });

  test('asked again it does not end the relay at once; --no-wait returns meanwhile', async () => {
    const { server, adminUrl } = await serve();
    const drain = ['drain', '--no-wait', '--admin-url', adminUrl, '--admin-token-file', TOKEN_FILE];
    for (let i = 0; i < 2; i += 1) {
      expect(await commandResult(drain)).toMatchObject({ exitCode: 0, out: 'draining\n', err: '' });
    }
    expect(server.exits).toEqual([]);
    expect(await within('the end', server.exitCode)).toBe(0);
  });

  test('wants the token, and POST', async () => {
    const { server, adminUrl } = await serve();
    const denied = await commandResult(['drain', '--admin-url', adminUrl]);
    expect(denied.exitCode).toBe(1);
    expect(denied.err).toContain('asks for its token');
    const headers = { Authorization: `Bearer ${TOKEN}` };
    const read = await fetch(`${adminUrl}/api/drain`, { headers });
    expect([read.status, read.headers.get('allow')]).toEqual([405, 'POST']);
    const foreign = { ...headers, Origin: 'https://elsewhere.example' };
    const page = await fetch(`${adminUrl}/api/drain`, { method: 'POST', headers: foreign });
    expect(page.status).toBe(403);
    expect(server.out()).not.toContain('draining');
    server.signal('SIGTERM');
    await server.exitCode;
  });
});
