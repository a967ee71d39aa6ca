import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePort } from '../support/ports.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';
import { commandResult } from './run-command.ts';

const TOKEN = 'a-token-for-tests';
const KEY = /[A-Za-z0-9+/]{43}=/;
const folder = mkdtempSync(join(tmpdir(), 'halfway-cli-'));
let relay: TestRelay;
beforeAll(async () => {
  relay = await startRelay({ adminToken: TOKEN });
});
afterAll(async () => {
  await relay[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

function run(
  argv: readonly string[],
  options: { readonly env?: Record<string, string>; readonly input?: string } = {},
): ReturnType<typeof commandResult> {
  const env = { HALFWAY_ADMIN_URL: relay.adminUrl, HALFWAY_ADMIN_TOKEN: TOKEN, ...options.env };
  return commandResult(argv, { ...options, env });
}

async function json(argv: readonly string[]): Promise<unknown> {
  const { exitCode, out, err } = await run([...argv, '--json']);
  if (exitCode !== 0) throw new Error(err);
  return JSON.parse(out);
}

describe('halfway hyco', () => {
  test('creates, shows, changes, lists and deletes', async () => {
    const created = await run(['hyco', 'create', 'a/new', '--user-metadata', 'first']);
    expect(created.exitCode).toBe(0);
    expect(created.out).toMatch(/^name +a\/new\n/);
    expect(created.err).toContain('--data DIR');

    const updated = await run(['hyco', 'update', 'a/new', '--requires-client-authorization=false']);
    expect(updated.exitCode).toBe(0);
    expect(await json(['hyco', 'show', 'A/NEW'])).toMatchObject({
      name: 'a/new',
      properties: { requiresClientAuthorization: false, userMetadata: 'first' },
    });

    const { out } = await run(['hyco', 'list']);
    expect(out).toMatch(/^NAME +LISTENERS +SENDERS +DEFINED BY\n/);
    expect(out).toMatch(/^a\/new +0 +anyone +api$/m);
    expect(out).toMatch(/^hyco +0 +with token +config-file$/m);

    expect((await run(['hyco', 'delete', 'a/new'])).out).toBe('Deleted a/new\n');
    const again = await run(['hyco', 'delete', 'a/new']);
    expect(again).toMatchObject({ exitCode: 0, out: 'There was no a/new\n' });
  });

  test.each([
    ['show', 'nowhere', /There is no hybrid connection "nowhere"/],
    ['create', 'hyco', /the config file of the server defines it/],
    ['create', '-x', /unknown option/],
    ['create', 'x-', /\n {2}name must be 1 to 260/],
    ['update', 'hyco', /Nothing to change/],
  ])('%s %s fails and says why', async (command, name, why) => {
    const { exitCode, err, out } = await run(['hyco', command, name]);
    expect(exitCode).not.toBe(0);
    expect(err).toMatch(why);
    expect(out).toBe('');
  });

  test('create refuses what is there already', async () => {
    await run(['hyco', 'create', 'twice']);
    expect(await run(['hyco', 'create', 'twice'])).toMatchObject({
      exitCode: 1,
      err: 'halfway: Cannot create it: it is there already\n',
    });
  });
});

describe('halfway keys', () => {
  test('create and renew print no key, unless they are asked to', async () => {
    const created = await run(['keys', 'create', 'quiet', '--rights', 'listen,Send']);
    expect(created.exitCode).toBe(0);
    const renewed = await run(['keys', 'renew', 'quiet', '--key', 'primary']);
    expect(renewed.out).toMatch(/^Renewed the primary key of quiet/);
    const asJson = await run(['keys', 'renew', 'quiet', '--key', 'SecondaryKey', '--json']);
    expect(`${created.out}${renewed.out}${asJson.out}`).not.toMatch(KEY);
    const shown = await run(['keys', 'renew', 'quiet', '--key', 'primary', '--show']);
    expect(shown.out).toMatch(KEY);
  });

  test('list prints the rules without keys, and with a rule its keys', async () => {
    await run(['hyco', 'create', 'keyed']);
    await run(['keys', 'create', 'reader', '--hyco', 'keyed', '--rights', 'Listen']);
    const rules = await run(['keys', 'list', '--hyco', 'keyed']);
    expect(rules.out).toMatch(/^RULE +RIGHTS +DEFINED BY\nreader +Listen +api\n$/);
    const { out } = await run(['keys', 'list', 'reader', '--hyco', 'keyed']);
    expect(out).toMatch(/^secondaryKey +[A-Za-z0-9+/]{43}=$/m);
    expect(out).toMatch(/^primaryConnectionString +Endpoint=sb:.*;EntityPath=keyed$/m);
  });

  test('renew takes a key of a file, or of standard input', async () => {
    await run(['keys', 'create', 'given', '--rights', 'Send']);
    const file = join(folder, 'key');
    writeFileSync(file, 'key-of-a-file\n');
    const renew = ['keys', 'renew', 'given', '--key'];
    await run([...renew, 'primary', '--key-value-file', file]);
    await run([...renew, 'secondary', '--key-value-file', '-'], { input: 'key-of-stdin' });
    expect(await json(['keys', 'list', 'given'])).toMatchObject({
      primaryKey: 'key-of-a-file',
      secondaryKey: 'key-of-stdin',
    });
  });

  test('delete removes the rule', async () => {
    await run(['keys', 'create', 'short', '--rights', 'Send']);
    expect((await run(['keys', 'delete', 'short'])).out).toBe('Deleted short\n');
    expect((await run(['keys', 'list', 'short'])).err).toContain('There is no authorization rule');
  });

  test.each([
    [['renew', 'root'], 64, /--key primary/],
    [['renew', 'root', '--key', 'primary'], 1, /config file/],
    [['create', 'x', '--rights', 'Walk'], 1, /properties\.rights\[0\] must be one of/],
    [['renew', 'root', '--key', 'primary', '--key-value-file', '/nowhere'], 64, /Cannot read/],
  ])('%j ends with %i and says why', async (argv, exitCode, why) => {
    const result = await run(['keys', ...argv]);
    expect(result.exitCode).toBe(exitCode);
    expect(result.err).toMatch(why);
  });
});

describe('commands that speak to the admin port', () => {
  test('take the token of a file', async () => {
    const file = join(folder, 'token');
    writeFileSync(file, `${TOKEN}\n`);
    const env = { HALFWAY_ADMIN_TOKEN: '' };
    const argv = ['hyco', 'list', '--admin-token-file', file];
    expect((await run(argv, { env })).exitCode).toBe(0);
    const fromVariable = { ...env, HALFWAY_ADMIN_TOKEN_FILE: file };
    expect((await run(['hyco', 'list'], { env: fromVariable })).exitCode).toBe(0);
  });

  test('say that the token is missing', async () => {
    const { exitCode, err } = await run(['hyco', 'list'], { env: { HALFWAY_ADMIN_TOKEN: '' } });
    expect(exitCode).toBe(1);
    expect(err).toContain('HALFWAY_ADMIN_TOKEN');
  });

  test('say that nobody is there', async () => {
    const url = `http://127.0.0.1:${await freePort()}`;
    const { exitCode, err } = await run(['hyco', 'list', '--admin-url', url]);
    expect(exitCode).toBe(1);
    expect(err).toContain(`Cannot reach the admin port at ${url}: nothing listens there`);
  });

  test('refuse a URL that is none, and a namespace that is not there', async () => {
    const env = { HALFWAY_ADMIN_URL: 'localhost' };
    expect((await run(['hyco', 'list'], { env })).exitCode).toBe(64);
    const { exitCode, err } = await run(['hyco', 'list', '--namespace', 'other']);
    expect(exitCode).toBe(64);
    expect(err).toContain('one of tests');
  });
});
