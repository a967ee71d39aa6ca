import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { commandResult, runCommand } from '../cli/run-command.ts';
import { makeCertificate } from '../support/certificate.ts';
import { startRelay } from '../support/relay.ts';

/** A dozen processes are started one after the other, each from its sources. */
const TEST_TIMEOUT_MS = 120_000;
const TOKEN = 'hwt_token-of-the-first-administrator-of-tests';

test(
  'from the command line: register this computer, seal an account, start a run, watch its log',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'halfway-cli-e2e-'));
    await using relay = await startRelay({ dispatch: true, apiToken: TOKEN });
    const env = {
      HALFWAY_ENDPOINT: relay.httpUrl,
      HALFWAY_API_TOKEN: TOKEN,
      HALFWAY_STATE_DIR: join(folder, 'pins'),
      PATH: process.env['PATH'],
    };
    const ok = async (argv: readonly string[], input = ''): Promise<string> => {
      const { exitCode, out, err } = await commandResult(argv, { env, input });
      if (exitCode !== 0) throw new Error(err);
      return out;
    };
    const state = ['--state', join(folder, 'machine')];
    const registered = await ok(['machine', 'register', '--name', 'desk', ...state]);
    const [, fingerprint = ''] = /fingerprint (\S+)/.exec(registered) ?? [];
    await using service = runCommand(['machine', 'run', ...state], { env });
    await service.saw('listening through the relay');

    // What the machine shows is what has to be sealed to.
    const seal = ['connection', 'create', 'me', '--machine', 'desk', '--user', userInfo().username];
    await ok([...seal, '--fingerprint', fingerprint], 'pass-word-4711');
    // It comes on standard input, and what the job writes of it is masked.
    const digest = `const text = JSON.parse(require('fs').readFileSync(0, 'utf8')).pin;
    console.log(text, require('crypto').createHash('sha256').update(text).digest('hex'))`;
    const start = ['run', 'start', '--connection', 'me', '--follow', '--secret-input', 'pin=-'];
    const run = await commandResult([...start, '--', 'node', '-e', digest], {
      env,
      input: 'geheim',
    });
    expect(run.err).toMatch(/Offered to desk\n[^]*Started by desk\n[^]*Succeeded\n$/);
    expect(run.exitCode).toBe(0);
    expect(run.out).toBe(`*** ${createHash('sha256').update('geheim').digest('hex')}\n`);
    const failing = [
      'run',
      'start',
      '--connection',
      'me',
      '--wait',
      '-q',
      '--',
      'sh',
      '-c',
      'exit 7',
    ];
    const failed = await commandResult(failing, { env });
    expect(failed).toMatchObject({ exitCode: 1, out: '' });
    expect(failed.err).toContain('exit code 7');
    expect(await ok(['connection', 'test', 'me'])).toBe('"me" signs in at desk\n');
    expect(await ok(['machine', 'echo', 'desk'])).toMatch(/^status +200$/m);

    await using sleeper = runCommand(
      ['run', 'start', '--connection', 'me', '--follow', '--', 'sleep', '60'],
      { env },
    );
    await sleeper.saw('Running by desk');
    const [, id = ''] = /Queued (\S+)/.exec(sleeper.err()) ?? [];
    await ok(['run', 'cancel', id, '--mode', 'kill']);
    expect(await sleeper.exitCode).toBe(1);
    expect(sleeper.err()).toContain('the run ended as Cancelled');
    rmSync(folder, { recursive: true });
  },
  TEST_TIMEOUT_MS,
);

test('over TLS the authority of the server is named with --ca', async () => {
  using certificate = makeCertificate();
  const { certFile, keyFile } = certificate;
  const tls = { tlsCert: certFile, tlsKey: keyFile };
  await using relay = await startRelay({ dispatch: true, apiToken: TOKEN, ...tls });
  const env = { HALFWAY_ENDPOINT: relay.httpUrl, HALFWAY_API_TOKEN: TOKEN };
  const list = ['env', 'list', '--json'];
  const trusted = await commandResult([...list, '--ca', certFile], { env });
  expect(trusted).toMatchObject({ exitCode: 0, out: expect.stringContaining('"default"') });
  const { exitCode, err } = await commandResult(list, { env });
  expect(exitCode).toBe(1);
  expect(err).toContain('give its certificate with --ca FILE');
});
