import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseDuration } from '../../src/cli/duration.ts';
import { parseSasToken } from '../../src/protocol/sas-token.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { commandResult } from './run-command.ts';

const STRING = 'Endpoint=sb://relay.example.com/;SharedAccessKeyName=send;SharedAccessKey=s3cret';
const ENV = { HALFWAY_CONNECTION_STRING: STRING };

describe('halfway token', () => {
  test('prints a token for the path that ends after the time to live', async () => {
    const clock = new FakeClock(1_000_000_000_000);
    const argv = ['token', '--path', 'orders', '--ttl', '30m'];
    const { out, exitCode } = await commandResult(argv, { env: ENV, clock });
    expect(exitCode).toBe(0);
    expect(out.trimEnd()).not.toMatch(/\n|s3cret/);
    expect(parseSasToken(out.trimEnd())).toMatchObject({
      keyName: 'send',
      expiresAtSec: 1_000_000_000 + 1_800,
      audience: { host: 'relay.example.com', segments: ['orders'] },
    });
  });

  test('signs another audience when asked', async () => {
    const argv = ['token', '--audience', 'http://other.example.com/a', '--json'];
    const { out } = await commandResult(argv, { env: ENV });
    const { token, audience } = JSON.parse(out);
    expect(audience).toBe('http://other.example.com/a');
    expect(parseSasToken(token)?.audience?.host).toBe('other.example.com');
  });

  test('takes the path of the connection string', async () => {
    const env = { HALFWAY_CONNECTION_STRING: `${STRING};EntityPath=bills` };
    const { out } = await commandResult(['token'], { env });
    expect(parseSasToken(out.trimEnd())?.audience?.segments).toEqual(['bills']);
  });

  test('takes the connection string from a file or from standard input', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'halfway-token-'));
    const path = join(folder, 'connection');
    writeFileSync(path, `${STRING}\n`);
    const argv = ['token', '--path', 'a', '--connection-string-file'];
    const results = await Promise.all([
      commandResult([...argv, path]),
      commandResult([...argv, '-'], { input: `${STRING}\n` }),
      commandResult(['token', '--path', 'a'], { env: { HALFWAY_CONNECTION_STRING_FILE: path } }),
    ]);
    rmSync(folder, { recursive: true });
    expect(results.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0]);
  });

  test.each([
    ['a time that is none', ['--path', 'a', '--ttl', 'soon'], STRING],
    ['no path', [], STRING],
    ['a connection string without a key', ['--path', 'a'], 'Endpoint=sb://relay.example.com/'],
    ['a connection string that is none', ['--path', 'a'], 'SharedAccessKey=s3cret'],
  ])('refuses %s with 64, and shows no key', async (_, argv, text) => {
    const env = { HALFWAY_CONNECTION_STRING: text };
    const { exitCode, err } = await commandResult(['token', ...argv], { env });
    expect(exitCode).toBe(64);
    expect(err).toMatch(/^halfway: Cannot /);
    expect(err).not.toContain('s3cret');
  });
});

test.each([
  ['90', 90_000],
  ['90s', 90_000],
  ['30m', 1_800_000],
  ['1h', 3_600_000],
  ['7d', 604_800_000],
  ['0', undefined],
  ['1w', undefined],
  ['', undefined],
])('parseDuration() reads "%s" as %s', (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});
