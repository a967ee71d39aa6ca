import { randomBytes, randomInt } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { OsAccountHost } from '../../src/machine/session-hosts/os-account-host.ts';
import { makeAccount, type TestAccount } from '../support/accounts.ts';
import { Commands } from '../support/command-machine.ts';
import { API_TOKEN } from '../support/dispatch-process.ts';
import { recordingWay } from '../support/machine-bench.ts';
import { startChromium, visit } from '../support/portal.ts';
import { plainTraces, SecretSearch, searchMemory, tracesOf } from '../support/secret-search.ts';
import {
  HEAP,
  said,
  SAID,
  snapshot,
  startedServer,
  storeOf,
  type Evidence,
} from '../support/server-evidence.ts';
import { spellingsOf } from '../support/spellings.ts';
import { someFolder } from '../support/some-folder.ts';
import { until } from '../support/within.ts';

// Passwords that people type are nowhere at the server: job-dispatch.md section 13, items 1 and 2.

/** Alone half a minute; next to all else that CI does at once much longer. */
const TEST_MS = 180_000;
const STEP_MS = 30_000;
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=%&_-';

function canary(): string {
  return Array.from({ length: 32 }, () => LETTERS[randomInt(LETTERS.length)]).join('');
}

let browser: Browser;
beforeAll(async () => {
  browser = await startChromium();
}, STEP_MS);
afterAll(async () => {
  vi.restoreAllMocks();
  await browser?.close();
});

function noise(): Buffer {
  return randomBytes(1_000 + randomInt(4));
}

test('the search finds a secret in each spelling, under a mask, and packed', () => {
  const secret = canary();
  for (const [name, spelling] of spellingsOf(secret)) {
    expect(tracesOf(secret, Buffer.concat([noise(), spelling, noise()]))).toContain(name);
  }
  const [one = 0, two = 0, three = 0, four = 0] = randomBytes(4);
  const mask = [one, two, three, four];
  const masked = Buffer.from(Buffer.from(secret).map((byte, at) => byte ^ (mask[at % 4] ?? 0)));
  const packed = gzipSync(`before ${secret} behind`);
  const inUtf8 = (bytes: Buffer): readonly string[] =>
    tracesOf(secret, Buffer.concat([noise(), bytes, noise()])).filter(name =>
      name.startsWith('UTF-8'),
    );
  expect(inUtf8(masked)).toEqual(['UTF-8, masked']);
  expect(inUtf8(packed)).toEqual(['UTF-8, in gzip']);
  expect(tracesOf(secret, Buffer.concat([noise(), Buffer.from(canary()), noise()]))).toEqual([]);
});

test.each(['redis', 'data'] as const)(
  'no password is in anything that a server with --%s keeps, says, has in memory or is sent',
  async kind => {
    const passwords = { page: canary(), command: canary() };
    const input = canary();
    // Stands where anybody may see it: the search that finds it would find the others.
    const control = `c${randomBytes(15).toString('hex')}`;
    using pageAccount = makeAccount({ password: passwords.page });
    using commandAccount = makeAccount({ password: passwords.command });
    using folder = someFolder();
    await using store = await storeOf(kind, folder.path);
    await using server = await startedServer(store.argv, folder.path);
    await using way = await recordingWay(Number(new URL(server.origin).port));
    const before = await snapshot(server, folder.path);
    await server.admin.get('POST', '/environments', { id: control });
    const commands = new Commands(way.origin, API_TOKEN, folder.path, control);
    const desk = await commands.register(`desk-${control}`);
    const group = await makeGroup(commands, control);
    const accounts = ['--session-host', 'os-account'];
    await using deskService = await commands.serve(`desk-${control}`, accounts);
    await using memberService = await commands.serve('second', accounts);
    const signIns = watchSignIns();
    // The audit log names what was made by its id.
    const named = {
      id: control,
      name: 'none',
      kind: 'none',
      target: { kind: 'machine', id: desk.id },
    };
    await server.admin.get('POST', `/environments/${control}/connections`, named);

    const place = `#/${control}/connections/new?target=machine:${desk.id}`;
    await sealInPage(`${way.origin}/$portal/${place}`, desk.fingerprint, pageAccount);
    const seal = ['connection', 'create', `by-command-${control}`, '--user', commandAccount.name];
    const target = ['--group', control, '--fingerprint', group.fingerprint];
    await commands.ok([...seal, ...target], passwords.command);

    const secrets = [...Object.values(passwords), input, group.password];
    let during: Evidence | undefined;
    await runWatched(commands, 'by-page', input, control, () => Promise.resolve());
    await runWatched(commands, `by-command-${control}`, input, control, async () => {
      during = await snapshot(server, folder.path);
    });
    // The machines were given what was typed, and signed in with it.
    expect(signIns).toEqual([passwords.page, passwords.command]);

    const search = new SecretSearch([...secrets, control]);
    const heaps = [before, during, await snapshot(server, folder.path)];
    const evidence = [...heaps, ...(await store.evidence()), ...(await said(server, control))];
    const found = evidence.flatMap(one =>
      one === undefined ? [] : [[one.about, search.in(one.bytes)] as const],
    );
    const memory = searchMemory(server.pid() ?? 0, search);
    found.push(['memory', new Map([...memory].map(([secret, names]) => [secret, [...names]]))]);
    for (const secret of secrets) {
      expect(found.filter(([, traces]) => traces.has(secret)).map(([about]) => about)).toEqual([]);
    }
    const hasControl = found.filter(([, traces]) => traces.has(control)).map(([about]) => about);
    expect(hasControl).toEqual(expect.arrayContaining([...store.holdsRecords, ...SAID, 'memory']));
    expect(hasControl.filter(about => about === HEAP)).toHaveLength(2);

    const sent = way.sent();
    for (const secret of secrets) expect(tracesOf(secret, sent)).toEqual([]);
    expect(tracesOf(control, sent)).toContain('UTF-8');
    // What machines send through their WebSockets is masked, and seen all the same.
    expect(tracesOf('"type":"accept"', sent)).toContain('UTF-8, masked');
    for (const service of [deskService, memberService]) {
      for (const secret of secrets) expect(plainTraces(secret, service.outBytes())).toEqual([]);
    }
  },
  TEST_MS,
);

/** A job that is handed all that is sealed, and that waits until `look` has looked. */
async function runWatched(
  commands: Commands,
  connection: string,
  input: string,
  correlationId: string,
  look: () => Promise<void>,
): Promise<void> {
  const door = join(tmpdir(), `halfway-battery-${randomBytes(8).toString('hex')}`);
  const script = `read -r line; [ -n "$line" ] || exit 1; until [ -e ${door} ]; do sleep 0.05; done`;
  const about = ['--secret-input', 'key=-', '--correlation-id', correlationId];
  const start = ['run', 'start', '--connection', connection, ...about];
  const run = await commands.json([...start, '--', '/bin/sh', '-c', script], input);
  const id = String(run['id']);
  const untilIn = (states: readonly string[]): Promise<void> =>
    until(
      `the run is ${states.join(' or ')}`,
      async () => states.includes(String((await commands.json(['run', 'show', id]))['state'])),
      STEP_MS,
    );
  await untilIn(['Running', 'Failed']);
  await look();
  writeFileSync(door, '');
  await untilIn(['Succeeded', 'Failed']);
  rmSync(door);
  expect(await commands.json(['run', 'show', id])).toMatchObject({ state: 'Succeeded' });
}

/** What the session host is given to sign in with. */
function watchSignIns(): readonly string[] {
  vi.restoreAllMocks();
  const seen: string[] = [];
  const host = new OsAccountHost({ unattended: 1 });
  const launch = host.launch.bind(host);
  vi.spyOn(OsAccountHost.prototype, 'launch').mockImplementation(request => {
    seen.push(request.credential?.password.toString() ?? '');
    return launch(request);
  });
  return seen;
}

async function sealInPage(url: string, fingerprint: string, account: TestAccount): Promise<void> {
  await using visited = await visit(browser, url);
  const { page } = visited;
  await page.getByLabel('API token').fill(API_TOKEN);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByLabel('Name', { exact: true }).fill('by-page');
  await page.getByLabel('Account', { exact: true }).fill(account.name);
  await page.getByLabel('Password').fill(account.password);
  await page.getByText(fingerprint).waitFor();
  await page.getByRole('button', { name: 'Create connection' }).click();
  await page.getByRole('heading', { name: 'by-page' }).waitFor();
}

/** A group that `first` makes the key of, and that `second`, whose service runs, joins with its password. */
async function makeGroup(
  commands: Commands,
  name: string,
): Promise<{ readonly password: string; readonly fingerprint: string }> {
  const { id } = await commands.json(['group', 'create', name]);
  for (const machine of ['first', 'second']) await commands.register(machine);
  const joining = (machine: string): readonly string[] => {
    return ['machine', 'join-group', String(id), '--state', commands.stateOf(machine)];
  };
  const made = await commands.json(joining('first'));
  const password = String(made['generatedPassword']);
  const byFile = [...joining('second'), '--password-file', '-'];
  const wrong = await commands.result(byFile, `${password}x`);
  expect([wrong.exitCode, wrong.err]).toEqual([1, expect.stringContaining('password is wrong')]);
  await commands.ok(byFile, password);
  return { password, fingerprint: String(made['fingerprint']) };
}
