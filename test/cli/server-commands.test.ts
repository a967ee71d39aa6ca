import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { until, within } from '../support/within.ts';
import { portOf } from './port-of.ts';
import { commandResult, runCommand, type RunningCommand } from './run-command.ts';

const folder = mkdtempSync(join(tmpdir(), 'halfway-server-'));
afterAll(() => rmSync(folder, { recursive: true }));

const CONFIG = join(folder, 'relay.yaml');
writeFileSync(
  CONFIG,
  `
adminToken: an-admin-token-of-length
drainDelayMs: 0
namespaces:
  - name: production
    authorizationRules:
      - { name: all, rights: [Listen, Send, Manage], primaryKey: s3cret }
    hybridConnections:
      - name: orders
`,
);
const ANY_PORTS = ['--port', '0', '--admin-port', '0'];

interface Listening {
  readonly port: number;
  readonly adminPort: number;
}

/** The fields of the line that says that the ports accept. */
async function listening(command: RunningCommand): Promise<Listening> {
  await command.saw('"listening"');
  const lines = command
    .out()
    .split('\n')
    .filter(line => line.includes('"listening"'));
  expect(lines).toHaveLength(1);
  return JSON.parse(lines[0] ?? '');
}

describe('halfway serve', () => {
  test('says once that it listens, on ports that accept', async () => {
    await using server = runCommand(['serve', '--config', CONFIG, ...ANY_PORTS]);
    const { port, adminPort } = await listening(server);
    const health = await fetch(`http://127.0.0.1:${port}/$healthz`);
    expect(health.status).toBe(200);
    expect(adminPort).not.toBe(port);
  });

  test('says so whatever the log level is', async () => {
    const argv = ['serve', '--config', CONFIG, ...ANY_PORTS, '--log-level', 'fatal'];
    await using server = runCommand(argv);
    await listening(server);
  });

  test.each(['SIGTERM', 'SIGINT'] as const)('drains on %s and ends with 0', async signal => {
    const server = runCommand(['serve', '--config', CONFIG, ...ANY_PORTS]);
    await listening(server);
    server.signal(signal);
    expect(await within('the end', server.exitCode)).toBe(0);
    expect(server.out()).toMatch(/"msg":"draining"[^]*"msg":"drained"/);
  });

  test('ends at once on a second signal', async () => {
    const env = { HALFWAY_DRAIN_DELAY_MS: '1000' };
    const server = runCommand(['serve', '--config', CONFIG, ...ANY_PORTS], { env });
    await listening(server);
    server.signal('SIGTERM');
    expect(server.exits).toEqual([]);
    server.signal('SIGTERM');
    expect(server.exits).toEqual([1]);
    await within('the end', server.exitCode);
  });

  test('ends with 1 when the port is taken, and says how to choose another', async () => {
    const taken = createServer();
    await new Promise<void>(resolve => void taken.listen(0, '127.0.0.1', resolve));
    const port = String(portOf(taken));
    const argv = ['serve', '--config', CONFIG, '--host', '127.0.0.1', '--port', port];
    const { exitCode, err } = await commandResult([...argv, '--admin-port', '0']);
    taken.close();
    expect(exitCode).toBe(1);
    expect(err).toMatch(new RegExp(`^halfway: Cannot .*:${port}.*--port`));
    expect(err.trimEnd()).not.toContain('\n');
  });

  test('ends with 1 when the certificate cannot be read', async () => {
    const tls = ['--tls-cert', join(folder, 'none.pem'), '--tls-key', join(folder, 'none.key')];
    const { exitCode, err } = await commandResult([
      'serve',
      '--config',
      CONFIG,
      ...ANY_PORTS,
      ...tls,
    ]);
    expect(exitCode).toBe(1);
    expect(err).toMatch(/^halfway: Cannot .*none\./);
  });

  test('logs warnings of its configuration, and no secret', async () => {
    const env = { HALFWAY_COLOUR: 'red' };
    const server = runCommand(['serve', '--config', CONFIG, ...ANY_PORTS], { env });
    await listening(server);
    server.signal('SIGTERM');
    await within('the end', server.exitCode);
    expect(server.out()).toMatch(/"level":"warn".*HALFWAY_COLOUR/);
    expect(server.out() + server.err()).not.toMatch(/s3cret|an-admin-token/);
  });

  test('logs that SIGHUP has read the certificates again', async () => {
    await using server = runCommand(['serve', '--config', CONFIG, ...ANY_PORTS]);
    await listening(server);
    server.signal('SIGHUP');
    await server.saw('certificates reloaded');
  });
});

/** The connection string that it printed. */
function printed(command: RunningCommand): string {
  return /Endpoint=sb:\/\/localhost:\d+\/;[^\s']+/.exec(command.out())?.[0] ?? '';
}

describe('halfway dev', () => {
  test('prints a connection string that works, and commands', async () => {
    await using server = runCommand(['dev', ...ANY_PORTS]);
    const { port, adminPort } = await listening(server);
    await server.saw('Status page');
    expect(printed(server)).toMatch(
      new RegExp(
        `^Endpoint=sb://localhost:${port}/;SharedAccessKeyName=RootManageSharedAccessKey;`,
      ),
    );
    expect(server.out()).toContain('halfway listen hello\n');
    expect(server.out()).toContain(`http://127.0.0.1:${adminPort}/status`);
    const env = { HALFWAY_CONNECTION_STRING: printed(server) };
    await using listener = runCommand(['listen', 'hello'], { env });
    await listener.saw('listening on');
    const { out } = await commandResult(['request', 'hello', '-d', 'hi'], { env });
    expect(out).toBe('hi');
  });

  test('prints what job dispatch needs: where, a token that works, and the portal', async () => {
    await using server = runCommand(['dev', ...ANY_PORTS]);
    const { port } = await listening(server);
    await server.saw('Status page');
    const [, endpoint] = /HALFWAY_ENDPOINT='([^']+)'/.exec(server.out()) ?? [];
    const [, token] = /HALFWAY_API_TOKEN='(hwt_[\w-]{43})'/.exec(server.out()) ?? [];
    expect(endpoint).toBe(`http://localhost:${port}`);
    expect(server.out()).toContain(`http://localhost:${port}/$portal/`);
    const asked = await fetch(`${endpoint}/$api/v1/environments`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect(await asked.json()).toMatchObject({ items: [{ id: 'default' }] });
  });

  test('prints where the portal is when that has a host of its own', async () => {
    await using server = runCommand(['dev', '--portal-host', 'portal.localhost', ...ANY_PORTS]);
    const { port } = await listening(server);
    await server.saw(`http://portal.localhost:${port}/$portal/`);
    expect(server.out()).toContain(`HALFWAY_ENDPOINT='http://localhost:${port}'`);
  });

  test('says nothing of job dispatch where that is off, and serves nothing of it', async () => {
    await using server = runCommand(['dev', '--no-dispatch', ...ANY_PORTS]);
    const { port } = await listening(server);
    await server.saw('Status page');
    expect(server.out()).not.toMatch(/hwt_|portal|HALFWAY_ENDPOINT/);
    expect((await fetch(`http://127.0.0.1:${port}/$api/v1/endpoints`)).status).toBe(404);
  });

  test('takes the API token that it is given', async () => {
    const env = { HALFWAY_API_TOKEN: 'hwt_0123456789abcdefghijklmnopqrstuv' };
    await using server = runCommand(['dev', ...ANY_PORTS], { env });
    await server.saw(`HALFWAY_API_TOKEN='${env.HALFWAY_API_TOKEN}'`);
  });

  test('makes another key at each start', async () => {
    await using one = runCommand(['dev', ...ANY_PORTS]);
    await using other = runCommand(['dev', ...ANY_PORTS]);
    await Promise.all([one.saw('Status page'), other.saw('Status page')]);
    const keys = [one, other].map(command => printed(command).split('SharedAccessKey=')[1]);
    expect(new Set(keys).size).toBe(2);
    expect(keys.every(key => key?.length === 44)).toBe(true);
  });

  test.each([
    ['a variable', [], { HALFWAY_DEV_KEY: 'given' }],
    ['a file named by a variable', [], { HALFWAY_DEV_KEY_FILE: join(folder, 'dev.key') }],
    ['a file named by a flag', ['--key-file', join(folder, 'dev.key')], {}],
  ])('takes its key from %s', async (_, more, env) => {
    writeFileSync(join(folder, 'dev.key'), 'given\n');
    await using server = runCommand(['dev', ...ANY_PORTS, ...more], { env });
    await server.saw('Status page');
    expect(printed(server)).toMatch(/;SharedAccessKey=given$/);
  });

  test('says nothing but the log with --quiet', async () => {
    await using server = runCommand(['dev', ...ANY_PORTS, '--quiet']);
    await listening(server);
    expect(server.out()).not.toContain('Endpoint=');
    expect(server.err()).toBe('');
  });

  test('writes for people on a terminal, with colours unless NO_COLOR says otherwise', async () => {
    const options = { isTerminal: true } as const;
    await using coloured = runCommand(['dev', ...ANY_PORTS], options);
    await using plain = runCommand(['dev', ...ANY_PORTS], { ...options, env: { NO_COLOR: '1' } });
    await Promise.all([coloured.saw('Status page'), plain.saw('Status page')]);
    expect(coloured.out()).toContain('\u001b[');
    expect(plain.out()).not.toContain('\u001b[');
    expect(plain.out()).toMatch(/INFO.*listening/);
  });

  test('adds its rule to the namespaces of a config file', async () => {
    await using server = runCommand(['dev', '--config', CONFIG, ...ANY_PORTS]);
    await server.saw('Status page');
    const env = { HALFWAY_CONNECTION_STRING: printed(server) };
    await using listener = runCommand(['listen', 'orders'], { env });
    await listener.saw('listening on');
  });
});

describe('halfway healthcheck', () => {
  const secret = { HALFWAY_ADMIN_TOKEN: 'an-admin-token-of-length' };

  test('ends with 0 while the server is ready and with 1 while it drains', async () => {
    const env = { ...secret, HALFWAY_DRAIN_DELAY_MS: '1000' };
    const server = runCommand(['serve', '--config', CONFIG, ...ANY_PORTS], { env });
    const { port, adminPort } = await listening(server);
    const argv = ['healthcheck', '--admin-port', String(adminPort)];
    const asked = await commandResult(argv, { env: secret });
    expect([asked.exitCode, asked.out]).toEqual([
      0,
      `healthy: http://127.0.0.1:${adminPort}/readyz\n`,
    ]);
    const publicPort = { HALFWAY_ADMIN_PORT: '0', HALFWAY_PORT: String(port) };
    const { out } = await commandResult(['healthcheck'], { env: publicPort });
    expect(out).toBe(`healthy: http://127.0.0.1:${port}/$readyz\n`);
    server.signal('SIGTERM');
    await until(
      'not ready',
      async () => (await commandResult(argv, { env: secret })).exitCode === 1,
    );
    const live = await commandResult([...argv, '--live'], { env: secret });
    expect(live.exitCode).toBe(0);
    server.signal('SIGTERM');
    await within('the end', server.exitCode);
  });

  test('ends with 1 when nothing listens there', async () => {
    const { exitCode, err } = await commandResult(['healthcheck', '--admin-port', '1']);
    expect(exitCode).toBe(1);
    expect(err).toContain('Unhealthy: cannot ask http://127.0.0.1:1/readyz');
  });

  test('ends with 1 when there is no answer in time', async () => {
    const silent = createServer(() => undefined);
    await new Promise<void>(resolve => void silent.listen(0, '127.0.0.1', resolve));
    const argv = ['healthcheck', '--admin-port', String(portOf(silent)), '--timeout-ms', '50'];
    const { exitCode, err } = await commandResult(argv);
    silent.close();
    expect(exitCode).toBe(1);
    expect(err).toContain('no answer within 50 ms');
  });
});
