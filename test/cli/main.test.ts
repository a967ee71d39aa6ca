import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { until, within } from '../support/within.ts';

// The built program as people run it. `npm test` builds dist/ before.

const MAIN = join(import.meta.dirname, '../../dist/main.js');
const START_MS = 15_000;
const folder = mkdtempSync(join(tmpdir(), 'halfway-main-'));
const CONFIG = join(folder, 'relay.yaml');
writeFileSync(CONFIG, 'drainDelayMs: 0\nnamespaces: [{ name: production }]\n');
afterAll(() => rmSync(folder, { recursive: true }));

const started: ChildProcessByStdio<Writable, Readable, Readable>[] = [];
afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL');
});

interface Running {
  readonly out: () => string;
  readonly err: () => string;
  readonly kill: (signal: NodeJS.Signals) => void;
  readonly stdout: Readable;
  /** Exit code, or the signal that ended it. */
  readonly end: Promise<number | string>;
}

function run(argv: readonly string[], env: Record<string, string> = {}, input?: string): Running {
  const child = spawn(process.execPath, [MAIN, ...argv], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  started.push(child);
  const [out, err]: [string[], string[]] = [[], []];
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk.toString()));
  if (input !== undefined) child.stdin.end(input);
  return {
    out: () => out.join(''),
    err: () => err.join(''),
    kill: signal => void child.kill(signal),
    stdout: child.stdout,
    end: new Promise(resolve => {
      child.once('close', (code, signal) => resolve(code ?? signal ?? 'nothing'));
    }),
  };
}

async function serve(
  env: Record<string, string> = {},
): Promise<Running & { readonly port: number }> {
  const ports = ['--port', '0', '--admin-port', '0'];
  const server = run(['serve', '--config', CONFIG, '--host', '127.0.0.1', ...ports], env);
  await until('listening', () => server.out().includes('"listening"'), START_MS);
  const line = server
    .out()
    .split('\n')
    .find(each => each.includes('"listening"'));
  const { port } = JSON.parse(line ?? '{}');
  return { ...server, port };
}

describe('dist/main.js', () => {
  test.each([
    [['--version'], 0],
    [['serve', '--help'], 0],
    [['serve', '--colour'], 64],
    [['serve'], 78],
    [['config', 'check', '--config', CONFIG], 0],
    [['healthcheck', '--admin-port', '1'], 1],
  ])('%j ends with %i', async (argv, exitCode) => {
    expect(await within('the end', run(argv).end, START_MS)).toBe(exitCode);
  });

  test('serve writes one line of JSON when its ports accept, and ends with 0 after SIGTERM', async () => {
    const server = await serve();
    expect((await fetch(`http://127.0.0.1:${server.port}/$readyz`)).status).toBe(200);
    server.kill('SIGTERM');
    expect(await within('the end', server.end)).toBe(0);
    const lines = server
      .out()
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line));
    expect(lines.filter(({ msg }) => msg === 'listening')).toHaveLength(1);
    expect(lines.at(-1)).toMatchObject({ level: 'info', service: 'halfway', msg: 'drained' });
    expect(server.err()).toBe('');
  });

  test('serve ends with 1 at a second signal', async () => {
    const server = await serve({ HALFWAY_DRAIN_DELAY_MS: '60000' });
    server.kill('SIGTERM');
    await until('draining', () => server.out().includes('"draining"'));
    server.kill('SIGINT');
    expect(await within('the end', server.end)).toBe(1);
  });

  test('a variable that is set wins over the file, and a flag over both', async () => {
    const env = { HALFWAY_NODE_ID: 'from-variable', HALFWAY_LOG_LEVEL: 'x' };
    const print = run(['config', 'print', '--config', CONFIG, '--log-level', 'warn'], env);
    expect(await within('the end', print.end, START_MS)).toBe(0);
    expect(print.out()).toMatch(/nodeId: from-variable[^]*logLevel: warn/);
  });

  test('token reads its connection string from standard input', async () => {
    const string = 'Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=s3cret\n';
    const argv = ['token', '--path', 'a', '--connection-string-file', '-'];
    const token = run(argv, {}, string);
    expect(await within('the end', token.end, START_MS)).toBe(0);
    expect(token.out()).toMatch(/^SharedAccessSignature sr=http%3A%2F%2Fh%2Fa%2F&sig=\S+\n$/);
  });

  test('a reader that goes away early is no fault', async () => {
    const help = run(['config', 'options']);
    help.stdout.destroy();
    expect(await within('the end', help.end, START_MS)).toBe(0);
    expect(help.err()).toBe('');
  });
});
