import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { commandResult } from './run-command.ts';

const folder = mkdtempSync(join(tmpdir(), 'halfway-cli-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const GOOD = file(
  'good.yaml',
  'namespaces: [{ name: a, authorizationRules: [{ name: r, rights: [Send], primaryKey: s3cret }] }]',
);
const BAD = file('bad.yaml', 'port: x\ncolour: red\nnamespaces: []\n');

describe('runCli() ends', () => {
  test.each([
    ['with 0 after help', ['--help'], 0],
    ['with 0 after the version', ['--version'], 0],
    ['with 0 after the help of a command', ['connect', '--help'], 0],
    ['with 64 without a command', [], 64],
    ['with 64 for a command it does not know', ['lisen'], 64],
    ['with 64 for a flag it does not know', ['serve', '--colour'], 64],
    ['with 64 for an argument too many', ['listen', 'a', 'b'], 64],
    ['with 64 without a connection string', ['listen', 'a'], 64],
    ['with 64 for --auto-create of serve', ['serve', '--auto-create'], 64],
    ['with 78 for a value that cannot be', ['serve', '--config', GOOD, '--port', 'x'], 78],
    ['with 78 for serve without a namespace', ['serve'], 78],
    ['with 78 for a config file with faults', ['config', 'check', '--config', BAD], 78],
    ['with 0 for a config file without', ['config', 'check', '--config', GOOD], 0],
  ])('%s', async (_, argv, exitCode) => {
    expect((await commandResult(argv)).exitCode).toBe(exitCode);
  });
});

test('runCli() suggests the command that was meant', async () => {
  const { err } = await commandResult(['lisen']);
  expect(err).toContain('(Did you mean listen?)');
});

test('serve without a namespace shows a file to copy, and halfway dev', async () => {
  const { err } = await commandResult(['serve']);
  expect(err).toContain('hybridConnections:');
  expect(err).toContain('halfway dev');
});

test('config check reports every fault on standard error, with its place', async () => {
  const { err, out } = await commandResult(['config', 'check', '--config', BAD]);
  expect(out).toBe('');
  expect(err).toContain('bad.yaml:1:1: port must be');
  expect(err).toContain('bad.yaml:2:1: colour is not');
  expect(err).toContain('namespaces must hold at least one');
});

test('config check warns of variables that nobody knows', async () => {
  const env = { HALFWAY_COLOUR: 'red' };
  const { err } = await commandResult(['config', 'check', '--config', GOOD], { env });
  expect(err).toMatch(/^warning: HALFWAY_COLOUR is ignored/);
});

test.each([[[]], [['--json']]])('config print hides keys %s', async more => {
  const { out } = await commandResult(['config', 'print', '--config', GOOD, ...more]);
  expect(out).toContain('(hidden)');
  expect(out).not.toContain('s3cret');
});

test('config options prints a table with each variable', async () => {
  expect((await commandResult(['config', 'options'])).out).toContain('`HALFWAY_ACCEPT_TIMEOUT_MS`');
});

describe('help', () => {
  test('of serve has each option with its variable and default', async () => {
    const { out } = await commandResult(['serve', '--help']);
    const text = out.replace(/\s+/g, ' ');
    expect(text).toContain('(HALFWAY_REQUEST_TIMEOUT_MS; default 60000 ms)');
    expect(text).toContain('HALFWAY_ADMIN_TOKEN, HALFWAY_ADMIN_TOKEN_FILE');
    expect(text).not.toContain('--auto-create');
  });

  test('of dev has its own defaults', async () => {
    const { out } = await commandResult(['dev', '--help']);
    expect(out.replace(/\s+/g, ' ')).toContain('(HALFWAY_HOST; default 127.0.0.1)');
  });

  test.each(['token', 'listen', 'forward', 'connect', 'request', 'doctor'])(
    'of %s has examples, and none with a key in it',
    async command => {
      const { out } = await commandResult([command, '--help']);
      const examples = out.slice(out.indexOf('Examples:'));
      expect(examples).toContain(`halfway ${command}`);
      expect(examples).not.toMatch(/SharedAccessKey|--connection-string /);
    },
  );
});
