import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Later } from '../../src/client/later.ts';
import { openEnvelope } from '../../src/crypto/open-envelope.ts';
import {
  noObstacle,
  startDispatch,
  type Job,
  type ServedDispatch,
  type ServedMachine,
} from '../support/dispatch-server.ts';
import { commandResult, runCommand } from './run-command.ts';

const folder = mkdtempSync(join(tmpdir(), 'halfway-cli-runs-'));
let served: ServedDispatch;
let machine: ServedMachine;
let job: Job;
beforeAll(async () => {
  served = await startDispatch();
  machine = await served.addMachine('desk', (offer, started) => job(offer, started));
  await ok(['connection', 'create', 'ann', '--machine', 'desk', '--user', 'ann'], 'secret');
  await ok(['connection', 'create', 'here', '--machine', 'desk', '--signed-in']);
});
beforeEach(() => {
  job = () => Promise.resolve({});
});
afterEach(() => {
  served.obstacle = noObstacle;
});
afterAll(async () => {
  await served[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

function options(input?: string) {
  const env = { ...served.env, HALFWAY_STATE_DIR: folder };
  return { env, ...(input === undefined ? {} : { input }) };
}

function run(argv: readonly string[], input?: string): ReturnType<typeof commandResult> {
  return commandResult(argv, options(input));
}

async function ok(argv: readonly string[], input?: string): Promise<string> {
  const { exitCode, out, err } = await run(argv, input);
  if (exitCode !== 0) throw new Error(err);
  return out;
}

async function json(argv: readonly string[]): Promise<unknown> {
  return JSON.parse(await ok([...argv, '--json']));
}

async function queued(): Promise<unknown> {
  const items = await json(['machine', 'queue', 'away']);
  return Array.isArray(items) ? items.map(({ id }) => id) : items;
}

const START = ['run', 'start', '--connection', 'ann'];

describe('halfway run start', () => {
  test('queues a program with its arguments and prints the id', async () => {
    const id = (await ok([...START, '--input', 'a=b=c', '--', 'backup.sh', '--full', '-x'])).trim();
    expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect(await json(['run', 'input', id])).toEqual({
      job: { ref: 'backup.sh', kind: 'command', command: ['backup.sh', '--full', '-x'] },
      inputs: { a: 'b=c' },
      sealedInputs: {},
    });
    expect(await json(['run', 'wait', id])).toMatchObject({ id, state: 'Succeeded' });
  });

  test('--follow writes the log to standard output as it comes, and the rest beside it', async () => {
    const goOn = new Later<void>();
    job = async (_offer, { log }) => {
      await log('first\n');
      await goOn.promise;
      await log('zweite Zeile ü\n');
      return { exitCode: 0 };
    };
    await using command = runCommand([...START, '--follow', '--', 'true'], options());
    await command.saw('first\n');
    goOn.resolve();
    await expect(command.exitCode).resolves.toBe(0);
    expect(command.out()).toBe('first\nzweite Zeile ü\n');
    expect(command.err()).toMatch(/^Queued [0-9a-f-]{36}\n/);
    expect(command.err()).toContain('Started by desk\n');
    expect(command.err()).toMatch(/Succeeded\n$/);
  });

  test('--wait ends with 1 and the reason when the run fails', async () => {
    job = () =>
      Promise.resolve({
        status: 'Failed',
        exitCode: 3,
        error: { code: 'AgentNotReachable', message: 'it \u001b[2Jbroke' },
      });
    const { exitCode, err, out } = await run([...START, '--wait', '-q', '--', 'false']);
    expect({ exitCode, out }).toEqual({ exitCode: 1, out: '' });
    expect(err).toBe(
      'halfway: the run ended as Failed: AgentNotReachable: it  [2Jbroke, exit code 3\n',
    );
  });

  test('--wait --json prints the run as it ended', async () => {
    const out = await ok([...START, '--wait', '--json', '--', 'true']);
    expect(JSON.parse(out)).toMatchObject({ state: 'Succeeded', mode: 'unattended' });
  });

  test('Ctrl-C leaves the run and says how to end it', async () => {
    job = async (_offer, { cancelled }) => {
      await cancelled;
      return { status: 'Cancelled' };
    };
    await using command = runCommand([...START, '--follow', '--', 'sleep'], options());
    await command.saw('Started by desk');
    command.signal('SIGINT');
    await expect(command.exitCode).resolves.toBe(1);
    const [, id = ''] = /halfway run cancel (\S+)\n$/.exec(command.err()) ?? [];
    expect(await json(['run', 'show', id])).toMatchObject({ state: 'Running' });
    await ok(['run', 'cancel', id]);
    const { exitCode, err } = await run(['run', 'wait', id]);
    expect({ exitCode, err }).toMatchObject({ exitCode: 1 });
    expect(err).toContain('the run ended as Cancelled');
  });

  test('seals what is secret: the machine reads it, nobody else does', async () => {
    const secret = 'a-pin-that-nobody-sees';
    writeFileSync(join(folder, 'pin'), `${secret}\n`);
    let offered: unknown;
    job = async offer => {
      const envelope = offer.sealedInputs['pin'];
      if (envelope === undefined) throw new Error('no envelope');
      const holder = {
        tenant: 'default',
        environment: 'default',
        kind: 'machine',
        id: machine.id,
      } as const;
      const purpose = { type: 'input', runId: offer.runId, name: 'pin' } as const;
      const plaintext = await openEnvelope([machine.key], holder, purpose, envelope);
      offered = typeof plaintext === 'string' ? plaintext : Buffer.from(plaintext).toString();
      return {};
    };
    const secretInput = `pin=@${join(folder, 'pin')}`;
    const { err } = await run([...START, '--wait', '--secret-input', secretInput, '--', 'unlock']);
    expect(err).toContain('Succeeded');
    expect(offered).toBe(JSON.stringify(secret).padEnd(256));
    expect(served.bodies.join('\n')).not.toContain(secret);
  });

  test('runs a job from a file, attended where the connection has no account', async () => {
    const file = join(folder, 'job.json');
    writeFileSync(file, JSON.stringify({ ref: 'hello', kind: 'simulated', script: { ms: 1 } }));
    expect(await json(['run', 'start', '--connection', 'here', '--job', file])).toMatchObject({
      jobRef: 'hello',
      jobKind: 'simulated',
      mode: 'attended',
    });
  });

  test('the same idempotency key makes one run', async () => {
    const argv = ['run', 'start', '--connection', 'ann', '--idempotency-key', 'k1', '--', 'once'];
    const id = await ok(argv);
    expect(await ok(argv)).toBe(id);
    const { exitCode, err } = await run([...argv, 'otherwise']);
    expect(exitCode).toBe(1);
    expect(err).toContain('(IdempotencyKeyReused)');
  });

  test('goes on following when the server was away for a moment', async () => {
    const goOn = new Later<void>();
    job = async (_offer, { log }) => {
      await log('before\n');
      await goOn.promise;
      await log('after\n');
      return {};
    };
    await using command = runCommand([...START, '--follow', '--', 'true'], options());
    await command.saw('before\n');
    let refused = 0;
    served.obstacle = (_request, response) => {
      refused += 1;
      if (refused > 2) return false;
      response.destroy();
      return true;
    };
    goOn.resolve();
    await expect(command.exitCode).resolves.toBe(0);
    expect(command.out()).toBe('before\nafter\n');
  });

  test.each([
    [['--', 'true'], /required option '--connection/],
    [['--connection', 'ann'], /Cannot tell what to run/],
    [['--connection', 'ann', '--job', 'x', '--', 'true'], /not both/],
    [['--connection', 'ann', '--timeout', 'soon', '--', 'true'], /Cannot read --timeout "soon"/],
    [['--connection', 'ann', '--input', 'a', '--', 'true'], /it is NAME=VALUE/],
    [['--connection', 'ann', '--secret-input', 'a=b', '--', 'true'], /from the command line/],
    [
      ['--connection', 'ann', '--idempotency-key', 'k', '--secret-input', 'a', '--', 'true'],
      /sealed anew each time/,
    ],
    [['--connection', 'ann', '--follow', '--json', '--', 'true'], /standard output is the log/],
    [
      ['--connection', 'ann', '--input', 'a=1', '--input', 'a=2', '--', 'true'],
      /"a" is given twice/,
    ],
  ])('%j is wrong usage', async (argv, why) => {
    const { exitCode, err, out } = await run(['run', 'start', ...argv]);
    expect({ exitCode, out }).toEqual({ exitCode: 64, out: '' });
    expect(err).toMatch(why);
  });

  test('says every fault that the server finds', async () => {
    const argv = [...START, '--timeout', '48h', '--queue-timeout', '1s', '--', 'true'];
    const { exitCode, err } = await run(argv);
    expect(exitCode).toBe(1);
    expect(err).toContain('(RequestMalformed)');
    expect(err).toMatch(/\n {2}timeoutSeconds /);
    expect(err).toMatch(/\n {2}queueTimeoutSeconds /);
  });

  test('says which connections there are to choose from when a name is not known', async () => {
    const { exitCode, err } = await run(['run', 'start', '--connection', 'bob', '--', 'true']);
    expect(exitCode).toBe(1);
    expect(err).toContain('There is no connection "bob"; `halfway connection list`');
  });
});

describe('halfway run', () => {
  test('list, show, logs: what there is of a run', async () => {
    job = async (_offer, { log }) => {
      await log('one\ntwo\n');
      return { outputs: { answer: 42 } };
    };
    const id = JSON.parse(await ok([...START, '--wait', '--json', '--', 'list-me'])).id;
    const list = await ok(['run', 'list', '--state', 'Succeeded', '--machine', 'desk']);
    expect(list).toMatch(/^RUN +STATE +JOB +CONNECTION +MACHINE +QUEUED +PRIORITY\n/);
    expect(list).toMatch(new RegExp(`^${id} +Succeeded +list-me +ann +desk +20`, 'm'));
    const show = await ok(['run', 'show', id]);
    expect(show).toMatch(/^state +Succeeded$/m);
    expect(show).toMatch(/What happened\n.*\d\dZ {2}.*Started by desk\n/s);
    expect(show).toContain('"answer": 42');
    expect(await ok(['run', 'logs', id])).toBe('one\ntwo\n');
    expect(await ok(['run', 'logs', '-f', id])).toBe('one\ntwo\n');
    expect(await json(['run', 'outputs', id])).toMatchObject({ outputs: { answer: 42 } });
  });

  test('what waits can be moved, changed and cancelled', async () => {
    await served.addMachine('away');
    await ok(['connection', 'create', 'far', '--machine', 'away', '--user', 'ann'], 'secret');
    const start = ['run', 'start', '--connection', 'far', '--', 'true'];
    const [first, second] = [(await ok(start)).trim(), (await ok(start)).trim()];
    expect(await queued()).toEqual([first, second]);
    await ok(['run', 'move-to-top', second]);
    expect(await queued()).toEqual([second, first]);
    await ok(['run', 'undo-move', second]);
    expect(await queued()).toEqual([first, second]);
    expect(await ok(['run', 'set', second, '--priority', 'high'])).toBe('Priority high\n');
    expect(await queued()).toEqual([second, first]);
    expect(await ok(['run', 'cancel', first])).toBe('Cancelled\n');
    expect(await run(['run', 'cancel', first])).toMatchObject({
      exitCode: 1,
      err: expect.stringContaining('(RunStateConflict)'),
    });
  });
});
