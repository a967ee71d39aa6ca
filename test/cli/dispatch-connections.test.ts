import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { readSecret } from '../../src/cli/secret-input.ts';
import { fingerprintOf } from '../../src/crypto/fingerprint.ts';
import { openEnvelope, readCredential } from '../../src/crypto/open-envelope.ts';
import { CONNECTION } from '../../src/dispatch/records.ts';
import {
  noObstacle,
  startDispatch,
  type Job,
  type ServedDispatch,
  type ServedMachine,
} from '../support/dispatch-server.ts';
import { commandResult } from './run-command.ts';

const PASSWORD = 'pass-word-of-ann-0815';
const folder = mkdtempSync(join(tmpdir(), 'halfway-cli-connections-'));
let served: ServedDispatch;
let desk: ServedMachine;
let job: Job;
beforeAll(async () => {
  served = await startDispatch();
  desk = await served.addMachine('desk', (offer, started) => job(offer, started));
});
beforeEach(() => {
  job = () => Promise.resolve({});
  rmSync(pinsFile(), { force: true });
});
afterAll(async () => {
  await served[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

function pinsFile(): string {
  return join(folder, 'known-keys.json');
}

function pin(key: { readonly id: string; readonly name: string; readonly kid: string }): void {
  const about = { origin: served.endpoint, environment: 'default', kind: 'machine' };
  writeFileSync(pinsFile(), JSON.stringify({ keys: [{ ...about, ...key }] }));
}

function run(argv: readonly string[], input?: string): ReturnType<typeof commandResult> {
  const env = { ...served.env, HALFWAY_STATE_DIR: folder };
  return commandResult(argv, { env, ...(input === undefined ? {} : { input }) });
}

async function json(argv: readonly string[], input?: string): Promise<Record<string, unknown>> {
  const { exitCode, err, out } = await run([...argv, '--json'], input);
  if (exitCode !== 0) throw new Error(err);
  return JSON.parse(out);
}

/** What a machine reads of a connection: it opens what the server keeps. */
async function opened(id: string, version: number, machine = desk): Promise<unknown> {
  const connection = await served.services.repository.get(CONNECTION, id);
  const { envelope, target } = connection?.value ?? {};
  if (envelope === undefined || target === undefined) throw new Error('nothing is sealed');
  const holder = { tenant: 'default', environment: 'default', ...target };
  const purpose = { type: 'credential', object: 'connection', id, version } as const;
  const plaintext = await openEnvelope([machine.key], holder, purpose, envelope);
  return typeof plaintext === 'string' ? plaintext : readCredential(plaintext);
}

const CREATE = ['connection', 'create', '--machine', 'desk', '--user', 'OFFICE\\ann'];

describe('halfway connection create', () => {
  test('seals the account: the machine reads it, the server does not', async () => {
    const { exitCode, err, out } = await run([...CREATE, 'ann'], `${PASSWORD}\n`);
    expect(exitCode).toBe(0);
    expect(err).toContain(
      `Sealing to the machine desk, fingerprint ${fingerprintOf(desk.key.kid)}`,
    );
    expect(err).toContain('seen for the first time');
    expect(`${out}${err}`).not.toContain(PASSWORD);
    const { id } = await json(['connection', 'show', 'ann']);
    expect(await opened(String(id), 1)).toEqual({
      domain: 'OFFICE',
      user: 'ann',
      password: PASSWORD,
    });
    expect(served.bodies.join('\n')).not.toContain(PASSWORD);
  });

  test('sends no account name unless it is told', async () => {
    const quiet = await json(CREATE, PASSWORD);
    expect(quiet).toMatchObject({
      name: 'OFFICE\\ann at desk',
      kind: 'password',
      kid: desk.key.kid,
    });
    expect(quiet).not.toHaveProperty('accountName');
    const told = await json([...CREATE, '--account-name', 'Ann'], PASSWORD);
    expect(told).toMatchObject({ accountName: 'Ann' });
  });

  test('--password-file: its last line end is none of the password', async () => {
    const file = join(folder, 'password');
    writeFileSync(file, ` ${PASSWORD} \r\n`);
    const { id } = await json([...CREATE, '--password-file', file]);
    expect(await opened(String(id), 1)).toMatchObject({ password: ` ${PASSWORD} ` });
  });

  test('whoever is signed in needs no account, a vault needs no password', async () => {
    const here = ['connection', 'create', '--machine', desk.id];
    expect(await json([...here, '--signed-in'])).toMatchObject({ kind: 'none' });
    expect(await json([...here, '--vault-ref', 'vault/ann'])).toMatchObject({
      kind: 'vaultRef',
      vaultRef: 'vault/ann',
    });
  });

  test.each([
    [['--user', 'ann'], /give --machine or --group/],
    [['--machine', 'desk'], /Cannot tell who signs in/],
    [['--machine', 'desk', '--user', 'ann', '--signed-in'], /Cannot tell who signs in/],
    [['--machine', 'desk', '--group', 'g', '--user', 'ann'], /not both/],
    [['--machine', 'desk', '--user', '\\ann'], /Cannot read --user/],
    [['--machine', 'desk', '--user', 'ann', '--password', 'x'], /unknown option '--password'/],
  ])('%j is wrong usage', async (argv, why) => {
    const { exitCode, err } = await run(['connection', 'create', ...argv], PASSWORD);
    expect(exitCode).toBe(64);
    expect(err).toMatch(why);
  });

  test('an empty password is refused before anything is sent', async () => {
    const before = served.bodies.length;
    const { exitCode, err } = await run([...CREATE], '\n');
    expect(exitCode).toBe(64);
    expect(err).toContain('Cannot use the password: it is empty');
    expect(served.bodies.slice(before).join('')).toBe('');
  });

  test('a name of several machines is not guessed at', async () => {
    const [one, other] = [await served.addMachine('twin'), await served.addMachine('twin')];
    const { exitCode, err } = await run(
      ['connection', 'create', '--machine', 'twin', '--user', 'ann'],
      PASSWORD,
    );
    expect(exitCode).toBe(1);
    expect(err).toContain('There are several of the name "twin"');
    expect(err).toContain(one.id);
    expect(err).toContain(other.id);
  });
});

describe('the key that is sealed to', () => {
  const otherKid = 'A'.repeat(43);

  test('is kept for this user alone, and known the next time', async () => {
    await run(CREATE, PASSWORD);
    expect(statSync(pinsFile()).mode & 0o777).toBe(0o600);
    const { err } = await run(CREATE, PASSWORD);
    expect(err).not.toContain('seen for the first time');
  });

  test('is not read when the file is broken', async () => {
    writeFileSync(pinsFile(), '{');
    const { exitCode, err } = await run(CREATE, PASSWORD);
    expect(exitCode).toBe(1);
    expect(err).toContain(`Cannot read the known keys in ${pinsFile()}`);
  });

  test('that has changed is refused, nothing is sent, until somebody says that it is right', async () => {
    pin({ id: desk.id, name: 'desk', kid: otherKid });
    const before = served.bodies.length;
    const { exitCode, err } = await run(CREATE, PASSWORD);
    expect(exitCode).toBe(1);
    expect(err).toContain('The key of the machine desk has changed; nothing was sealed');
    expect(err).toContain(fingerprintOf(otherKid));
    expect(err).toContain(fingerprintOf(desk.key.kid));
    expect(served.bodies.slice(before).join('')).toBe('');
    await json([...CREATE, '--accept-new-key'], PASSWORD);
    await json(CREATE, PASSWORD);
  });

  test('of another machine of a known name is a changed one', async () => {
    pin({ id: 'the-former-desk', name: 'desk', kid: otherKid });
    const { exitCode, err } = await run(CREATE, PASSWORD);
    expect(exitCode).toBe(1);
    expect(err).toContain('the-former-desk');
  });

  test('that --fingerprint names is right, whatever was known', async () => {
    pin({ id: desk.id, name: 'desk', kid: otherKid });
    const words = fingerprintOf(desk.key.kid).toUpperCase().replaceAll('-', ' ');
    await json([...CREATE, '--fingerprint', words], PASSWORD);
    await json(CREATE, PASSWORD);
  });

  test('that --fingerprint does not name is refused', async () => {
    const { exitCode, err } = await run([...CREATE, '--fingerprint', fingerprintOf(otherKid)]);
    expect(exitCode).toBe(1);
    expect(err).toContain('is not the one that --fingerprint names');
  });

  test('cannot be one that the server says another id of', async () => {
    served.obstacle = ({ url = '' }, response) => {
      if (!url.endsWith('/public-key')) return false;
      const point = Buffer.from(desk.key.point).toString('base64url');
      response.end(JSON.stringify({ kid: otherKid, suite: 'p256', point }));
      return true;
    };
    const { exitCode, err } = await run(CREATE, PASSWORD);
    served.obstacle = noObstacle;
    expect(exitCode).toBe(1);
    expect(err).toContain('gave a public key that is not what its id says');
  });

  test('is not sealed to when it cannot be kept', async () => {
    const readOnly = mkdtempSync(join(tmpdir(), 'halfway-read-only-'));
    writeFileSync(join(readOnly, 'file'), '');
    const { exitCode, err } = await commandResult(CREATE, {
      env: { ...served.env, HALFWAY_STATE_DIR: join(readOnly, 'file', 'below') },
      input: PASSWORD,
    });
    rmSync(readOnly, { recursive: true });
    expect(exitCode).toBe(1);
    expect(err).toMatch(/Cannot (?:keep the key|read the known keys)/);
  });
});

describe('halfway connection', () => {
  test('update seals new credentials for the next version', async () => {
    const { id } = await json([...CREATE, 'changing'], PASSWORD);
    const updated = await json(['connection', 'update', 'changing', '--user', 'bob'], 'another');
    expect(updated).toMatchObject({ credentialVersion: 2 });
    expect(await opened(String(id), 2)).toEqual({ domain: '', user: 'bob', password: 'another' });
    expect(await opened(String(id), 1)).toBe('CredentialContextMismatch');
  });

  test('update moves it to another machine with a new envelope only', async () => {
    const other = await served.addMachine('other');
    const { id } = await json([...CREATE, 'moving'], PASSWORD);
    const move = ['connection', 'update', 'moving', '--machine', 'other'];
    const refused = await run(move);
    expect(refused).toMatchObject({ exitCode: 64, err: expect.stringContaining('give --user') });
    await json([...move, '--user', 'ann'], PASSWORD);
    expect(await opened(String(id), 2, other)).toMatchObject({ user: 'ann' });
  });

  test('update changes names without touching what is sealed', async () => {
    await json([...CREATE, 'old-name'], PASSWORD);
    const renamed = await json(['connection', 'update', 'old-name', '--name', 'new-name']);
    expect(renamed).toMatchObject({ name: 'new-name', credentialVersion: 1 });
    const { exitCode, err } = await run(['connection', 'update', 'new-name']);
    expect({ exitCode, err }).toMatchObject({ exitCode: 64 });
    expect(err).toContain('Nothing to change');
  });

  test('list, grant, revoke and delete', async () => {
    await json([...CREATE, 'shared'], PASSWORD);
    const { out } = await run(['connection', 'list', '--machine', 'desk']);
    expect(out).toMatch(/^NAME +KIND +TARGET +VERSION +SUSPENDED +OWNER +ID\n/);
    expect(out).toMatch(/^shared +password +machine desk +1 +token:bootstrap /m);
    const granted = await json(['connection', 'grant', 'shared', 'user:bob', 'use']);
    expect(granted).toMatchObject({ access: { 'user:bob': 'use' } });
    const revoked = await json(['connection', 'revoke', 'shared', 'user:bob']);
    expect(revoked).toMatchObject({ access: {} });
    expect(await run(['connection', 'grant', 'shared', 'bob', 'use'])).toMatchObject({
      exitCode: 64,
      err: expect.stringContaining('user:ID'),
    });
    expect((await run(['connection', 'delete', 'shared'])).out).toBe('Deleted shared\n');
    expect(await run(['connection', 'show', 'shared'])).toMatchObject({
      exitCode: 1,
      err: expect.stringContaining('There is no connection "shared"'),
    });
  });

  test('test says whether the account signs in', async () => {
    await json([...CREATE, 'tried'], PASSWORD);
    const good = await run(['connection', 'test', 'tried']);
    expect(good).toMatchObject({ exitCode: 0, out: '"tried" signs in at desk\n' });
    job = () =>
      Promise.resolve({
        status: 'Failed',
        error: { code: 'WindowsIdentityIncorrect', message: 'no' },
      });
    const { exitCode, err, out } = await run(['connection', 'test', 'tried']);
    expect({ exitCode, out }).toEqual({ exitCode: 1, out: '' });
    expect(err).toContain('was tried at desk and ended as Failed: WindowsIdentityIncorrect: no');
  });
});

describe('readSecret()', () => {
  test('asks at a terminal, shows nothing, takes back what is deleted', async () => {
    const raw: boolean[] = [];
    const stdin = Object.assign(new PassThrough(), {
      isTTY: true,
      setRawMode: (isRaw: boolean) => void raw.push(isRaw),
    });
    const stderr = new PassThrough();
    const shown: string[] = [];
    stderr.on('data', chunk => shown.push(String(chunk)));
    const secret = readSecret({ what: 'password', file: undefined }, { stdin, stderr });
    // Of a character of two bytes one each time.
    const bytes = Buffer.from('wrong\u0015pä\u007fäss');
    for (const byte of bytes) stdin.write(Buffer.from([byte]));
    stdin.write('\r');
    await expect(secret).resolves.toBe('päss');
    expect(raw).toEqual([true, false]);
    expect(shown.join('')).toBe('Password: \n');
  });

  test('Ctrl-C ends it, the terminal is as before', async () => {
    const raw: boolean[] = [];
    const stdin = Object.assign(new PassThrough(), {
      isTTY: true,
      setRawMode: (isRaw: boolean) => void raw.push(isRaw),
    });
    const stderr = new PassThrough().resume();
    const secret = readSecret({ what: 'password', file: undefined }, { stdin, stderr });
    stdin.write('abc\u0003');
    await expect(secret).rejects.toThrow('Interrupted');
    expect(raw).toEqual([true, false]);
  });
});
