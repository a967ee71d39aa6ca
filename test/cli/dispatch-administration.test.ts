import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fingerprintOf } from '../../src/crypto/fingerprint.ts';
import {
  startDispatch,
  type ServedDispatch,
  type ServedMachine,
} from '../support/dispatch-server.ts';
import { freePort } from '../support/ports.ts';
import { portOf } from './port-of.ts';
import { commandResult } from './run-command.ts';

const folder = mkdtempSync(join(tmpdir(), 'halfway-cli-administration-'));
let served: ServedDispatch;
let desk: ServedMachine;
beforeAll(async () => {
  served = await startDispatch();
  desk = await served.addMachine('desk', () => Promise.resolve({}));
});
afterAll(async () => {
  await served[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

function run(
  argv: readonly string[],
  env: Record<string, string> = {},
): ReturnType<typeof commandResult> {
  return commandResult(argv, { env: { ...served.env, HALFWAY_STATE_DIR: folder, ...env } });
}

async function ok(argv: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const { exitCode, err, out } = await run(argv, env);
  if (exitCode !== 0) throw new Error(err);
  return out;
}

async function json(argv: readonly string[]): Promise<Record<string, unknown>> {
  return JSON.parse(await ok([...argv, '--json']));
}

describe('halfway machine', () => {
  test('list and show tell name, state, presence and fingerprint', async () => {
    const list = await ok(['machine', 'list']);
    expect(list).toMatch(
      /^NAME +STATE +PRESENCE +LAST SIGNAL +RUNS +WAITING +GROUP +VERSION +ID\n/,
    );
    expect(list).toMatch(/^desk +Active +Connected +20\d\d-/m);
    const words = fingerprintOf(desk.key.kid);
    expect(await ok(['machine', 'show', 'desk'])).toMatch(
      new RegExp(`^fingerprint +${words}$`, 'm'),
    );
    expect(await ok(['machine', 'fingerprint', 'desk'])).toBe(`${words}\n`);
  });

  test('set changes what is given; maintenance and draining show', async () => {
    const set = ['machine', 'set', 'desk', '--maintenance', 'on', '--bots', '3'];
    expect(await json([...set, '--label', 'site=a', '--description', 'front'])).toMatchObject({
      isInMaintenance: true,
      allocatedBots: 3,
      labels: { site: 'a' },
      description: 'front',
      reasons: ['Manual'],
    });
    await ok(['machine', 'set', 'desk', '--maintenance', 'off']);
    expect(await ok(['machine', 'drain', 'desk'])).toContain('desk drains');
    expect(await ok(['machine', 'list'])).toMatch(/^desk +Inactive Draining /m);
    await ok(['machine', 'set', desk.id, '--maintenance', 'off']);
    expect(await ok(['machine', 'list'])).toMatch(/^desk +Active /m);
  });

  test.each([
    [['set', 'desk'], 64, /Nothing to change/],
    [['set', 'desk', '--maintenance', 'perhaps'], 64, /it is on or off/],
    [['set', 'desk', '--bots', '11'], 1, /allocatedBots /],
    [['show', 'nobody'], 1, /There is no machine "nobody"; `halfway machine list`/],
    [['grant', 'desk', 'user:ann', 'everything'], 1, /\(RequestMalformed\)/],
  ])('%j fails and says why', async (argv, code, why) => {
    const { exitCode, err } = await run(['machine', ...argv]);
    expect(exitCode).toBe(code);
    expect(err).toMatch(why);
  });

  test('delete takes it away', async () => {
    await served.addMachine('old');
    expect(await ok(['machine', 'delete', 'old'])).toBe('Deleted old\n');
    expect(await ok(['machine', 'list'])).not.toContain('old');
  });
});

describe('halfway group', () => {
  test('create, list, set, show and delete', async () => {
    const created = await run(['group', 'create', 'night', '--description', 'late']);
    expect(created.err).toContain('halfway machine join-group');
    expect(await ok(['group', 'list'])).toMatch(/^night +NeedsKey +0 +0 /m);
    expect(await json(['group', 'set', 'night', '--look-ahead', '5'])).toMatchObject({
      description: 'late',
      lookAhead: 5,
    });
    expect(await json(['group', 'queue', 'night'])).toEqual([]);
    expect((await run(['group', 'fingerprint', 'night'])).exitCode).toBe(1);
    expect(await ok(['group', 'delete', 'night'])).toBe('Deleted night\n');
  });
});

describe('halfway env, user, api-token, code, audit', () => {
  test('a user gets a token, a role, and loses them again', async () => {
    await ok(['user', 'create', 'ann', '--display-name', 'Ann']);
    const token = await run(['api-token', 'create', 'laptop', '--user', 'ann']);
    expect(token.out).toMatch(/^hwt_[A-Za-z0-9_-]{43}\n$/);
    expect(token.err).toContain('It acts as user:ann');
    const asAnn = { HALFWAY_API_TOKEN: token.out.trim() };
    expect(await ok(['user', 'me'], asAnn)).toMatch(/^name +user:ann$/m);
    expect(await run(['machine', 'list'], asAnn)).toMatchObject({ exitCode: 1 });
    await ok(['env', 'grant', 'user:ann', 'reader']);
    expect(await ok(['machine', 'list'], asAnn)).toContain('desk');
    expect(await run(['machine', 'drain', 'desk'], asAnn)).toMatchObject({
      exitCode: 1,
      err: expect.stringContaining('(AccessDenied)'),
    });
    expect(await json(['env', 'show'])).toMatchObject({ roles: { 'user:ann': 'reader' } });
    await ok(['env', 'revoke', 'user:ann']);
    expect(await json(['env', 'show'])).toMatchObject({ roles: {} });
    await ok(['user', 'disable', 'ann']);
    const { exitCode, err } = await run(['user', 'me'], asAnn);
    expect(exitCode).toBe(1);
    expect(err).toContain('check HALFWAY_API_TOKEN');
    expect(err).not.toContain(token.out.trim());
    expect(await ok(['api-token', 'delete', 'laptop'])).toBe('Deleted laptop\n');
  });

  test('environments are created, and the others are not seen from one', async () => {
    await ok(['env', 'create', 'finance', '--display-name', 'Money']);
    expect(await ok(['env', 'list'])).toMatch(/^finance +Money$/m);
    await ok(['env', 'set', 'finance', '--min-agent-version', '1.2.3']);
    expect(await json(['env', 'show', 'finance'])).toMatchObject({ minAgentVersion: '1.2.3' });
    await ok(['env', 'set', 'finance', '--min-agent-version', 'none']);
    expect(await json(['env', 'show', 'finance'])).not.toHaveProperty('minAgentVersion');
    expect(await json(['machine', 'list', '--environment', 'finance'])).toEqual([]);
  });

  test('activation codes are shown once', async () => {
    const { out, err } = await run(['code', 'create', '--uses', '2', '--expires-in', '1h']);
    expect(out).toMatch(/^hwa_\S+\n$/);
    expect(err).toContain('Good for 2 machines until 20');
    const listed = await json(['code', 'list']);
    expect(JSON.stringify(listed)).not.toContain(out.trim());
    const [{ id }] = JSON.parse(await ok(['code', 'list', '--json']));
    expect(await ok(['code', 'delete', id])).toBe(`Deleted ${id}\n`);
    expect((await run(['code', 'list'])).err).toBe('There are no activation codes\n');
  });

  test('the audit log tells what was done', async () => {
    const { out } = await run(['audit', 'list', '--limit', '200']);
    expect(out).toMatch(/^NUMBER +AT +ACTION +BY +OBJECT +DETAILS\n/);
    expect(out).toMatch(/ machine\.register +token:bootstrap /);
    const [first] = JSON.parse(await ok(['audit', 'list', '--limit', '1', '--json']));
    const [second] = JSON.parse(
      await ok(['audit', 'list', '--after', '1', '--limit', '1', '--json']),
    );
    expect([first.number, second.number]).toEqual([1, 2]);
  });
});

describe('halfway schedule, halfway trigger', () => {
  beforeAll(async () => {
    await ok(['connection', 'create', 'here', '--machine', 'desk', '--signed-in']);
  });

  test('a schedule is made of a run and a time', async () => {
    const create = ['schedule', 'create', 'nightly', '--json', '--connection', 'here'];
    const times = ['--cron', '30 2 * * *', '--time-zone', 'Europe/Berlin'];
    const made = await ok([...create, ...times, '--input', 'a=b', '--', 'backup.sh']);
    expect(JSON.parse(made)).toMatchObject({
      name: 'nightly',
      cron: '30 2 * * *',
      isEnabled: true,
      run: { mode: 'attended', job: { command: ['backup.sh'] }, inputs: { a: 'b' } },
    });
    expect(await ok(['schedule', 'list'])).toMatch(
      /^nightly +30 2 \* \* \* Europe\/Berlin +20\S+Z +here /m,
    );
    await ok(['schedule', 'set', 'nightly', '--enabled', 'off']);
    expect(await ok(['schedule', 'list'])).toMatch(/^nightly .* disabled /m);
    expect((await run(['schedule', 'history', 'nightly'])).err).toBe('It was not due yet\n');
    expect(await ok(['schedule', 'delete', 'nightly'])).toBe('Deleted nightly\n');
  });

  test('a schedule needs one time', async () => {
    const argv = ['schedule', 'create', 'x', '--connection', 'here', '--', 'true'];
    for (const times of [[], ['--cron', '* * * * *', '--every', '1h']]) {
      const { exitCode, err } = await run([...argv.slice(0, 5), ...times, ...argv.slice(5)]);
      expect(exitCode).toBe(64);
      expect(err).toContain('give --cron');
    }
  });

  test("a trigger's secret is shown once, and anew when it is rotated", async () => {
    const made = await run(['trigger', 'create', 'shop', '--connection', 'here', '--', 'order.sh']);
    expect(made.out).toMatch(/^whsec_\S+\n$/);
    const { id } = await json(['trigger', 'show', 'shop']);
    expect(made.err).toContain(`${served.endpoint}/$api/v1/hooks/default/${String(id)}`);
    expect(await ok(['trigger', 'list', '--json'])).not.toContain(made.out.trim());
    const rotated = await ok(['trigger', 'rotate-secret', 'shop']);
    expect(rotated).toMatch(/^whsec_\S+\n$/);
    expect(rotated).not.toBe(made.out);
    const set = await json([
      'trigger',
      'set',
      'shop',
      '--runs-per-minute',
      '5',
      '--enabled',
      'off',
    ]);
    expect(set).toMatchObject({ runsPerMinuteMax: 5, isEnabled: false });
    expect(await ok(['trigger', 'delete', 'shop'])).toBe('Deleted shop\n');
  });
});

describe('where job dispatch is, and who asks', () => {
  test('without an endpoint or a token it is wrong usage', async () => {
    const noEndpoint = await run(['machine', 'list'], { HALFWAY_ENDPOINT: '' });
    expect(noEndpoint).toMatchObject({ exitCode: 64 });
    expect(noEndpoint.err).toContain('set HALFWAY_ENDPOINT, or give --endpoint');
    const noToken = await run(['machine', 'list'], { HALFWAY_API_TOKEN: '' });
    expect(noToken).toMatchObject({ exitCode: 64 });
    expect(noToken.err).toContain('set HALFWAY_API_TOKEN');
  });

  test('the token comes from a file, the endpoint as in connection strings', async () => {
    const file = join(folder, 'token');
    writeFileSync(file, `${served.token}\n`);
    const env = { HALFWAY_API_TOKEN: '', HALFWAY_ENDPOINT: '' };
    const endpoint = served.endpoint.replace('http', 'sb');
    const argv = ['machine', 'list', '--endpoint', endpoint];
    expect(await ok([...argv, '--api-token-file', file], env)).toContain('desk');
    expect(await ok(argv, { ...env, HALFWAY_API_TOKEN_FILE: file })).toContain('desk');
  });

  test('a token of another shape is not repeated', async () => {
    const { exitCode, err } = await run(['machine', 'list'], { HALFWAY_API_TOKEN: 'hwt_a\nb' });
    expect(exitCode).toBe(64);
    expect(err).not.toContain('hwt_a');
  });

  test('nobody there: says so, and where', async () => {
    const endpoint = `http://127.0.0.1:${await freePort()}`;
    const { exitCode, err } = await run(['machine', 'list', '--endpoint', endpoint]);
    expect(exitCode).toBe(1);
    expect(err).toContain(`Cannot reach job dispatch at ${endpoint}`);
    expect(err).toContain('nothing listens there');
  });

  test('somebody else there: says that it is not job dispatch', async () => {
    const server = createServer((_request, response) => response.writeHead(404).end('<html>'));
    await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
    const endpoint = `http://127.0.0.1:${portOf(server)}`;
    const { exitCode, err } = await run(['machine', 'list', '--endpoint', endpoint]);
    await new Promise(resolve => void server.close(resolve));
    expect(exitCode).toBe(1);
    expect(err).toContain('is not job dispatch');
  });

  test.each(['relay.example.com', 'ftp://x', 'http://127.0.0.1/path'])(
    'an endpoint like "%s" is wrong usage',
    async endpoint => {
      const { exitCode, err } = await run(['machine', 'list', '--endpoint', endpoint]);
      expect(exitCode).toBe(64);
      expect(err).toContain('must be such as https://relay.example.com');
    },
  );
});
