// What befalls machines besides death: each with the built machine service and real jobs, through a real server.
import { createHash, randomUUID } from 'node:crypto';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { API_TOKEN } from '../support/dispatch-process.ts';
import { allocate, connectionOfAccount, registerProgram } from '../support/machine-programs.ts';
import { startRelay } from '../support/relay.ts';
import { RestCaller } from '../support/relay-machine.ts';
import { executorsBelow, killExecutor } from '../support/run-diaries.ts';
import { someFolder } from '../support/some-folder.ts';
import { until } from '../support/within.ts';
import { wrongClock } from '../support/wrong-clock.ts';

const PATIENCE_MS = 60_000;
const HOUR_SEC = 3_600;
const RUNS_PATH = '/environments/default/runs';

vi.setConfig({ testTimeout: 3 * PATIENCE_MS });

/** A server, and a folder for machines. */
async function desktops() {
  const home = someFolder();
  const relay = await startRelay({ dispatch: true, apiToken: API_TOKEN });
  const admin = new RestCaller(relay.httpUrl, API_TOKEN);
  const runOf = async (runId: string) => admin.get('GET', `${RUNS_PATH}/${runId}`);
  return {
    admin,
    home: home.path,
    register: (name: string, more: { readonly env?: object } = {}) =>
      registerProgram({
        endpoint: relay.httpUrl,
        apiToken: API_TOKEN,
        name,
        state: join(home.path, name),
        socketFolder: join(home.path, `s-${name}`),
        unattended: 2,
        env: { ...more.env },
      }),
    submit: async (connectionId: string, script: string, more: object = {}): Promise<string> => {
      const job = { ref: 'test', kind: 'command', command: ['/bin/sh', '-c', script] };
      return String((await admin.get('POST', RUNS_PATH, { connectionId, job, ...more }))['id']);
    },
    runOf,
    untilState: async (runId: string, state: string): Promise<void> => {
      let last: unknown;
      const isSo = async (): Promise<boolean> => {
        last = await runOf(runId);
        return Object(last).state === state;
      };
      await until(`the run is ${state}`, isSo, PATIENCE_MS).catch((error: unknown) => {
        throw new Error(JSON.stringify(last), { cause: error });
      });
    },
    codesOf: async (runId: string): Promise<readonly unknown[]> => {
      const { items } = await admin.get('GET', `${RUNS_PATH}/${runId}/events`);
      return Array.isArray(items) ? items.map(({ code }) => code) : [];
    },
    async [Symbol.asyncDispose]() {
      for (const executor of executorsBelow(home.path)) killExecutor(executor);
      await relay[Symbol.asyncDispose]();
      home[Symbol.dispose]();
    },
  };
}

test('a machine whose clock is an hour ahead is told so, and takes what waited when it is right', async () => {
  await using desk = await desktops();
  using clock = wrongClock(0);
  await using machine = await desk.register('desk', { env: clock.env });
  const connectionId = await connectionOfAccount(desk.admin, { kind: 'machine', id: machine.id });
  clock.set(HOUR_SEC);
  await machine.start();
  await until(
    'it is told',
    () => /AuthTokenNotYetValid[^]*clock is (60|59) min/.test(machine.output()),
    PATIENCE_MS,
  );
  const runId = await desk.submit(connectionId, 'true');
  expect(await desk.runOf(runId)).toMatchObject({ state: 'Queued' });
  clock.set(0);
  await desk.untilState(runId, 'Succeeded');
});

test('a clock that goes an hour ahead during a run does it no harm', async () => {
  await using desk = await desktops();
  using clock = wrongClock(0);
  await using machine = await desk.register('desk', { env: clock.env });
  const connectionId = await connectionOfAccount(desk.admin, { kind: 'machine', id: machine.id });
  await machine.start();
  const runId = await desk.submit(connectionId, 'echo begun; sleep 2', { timeoutSeconds: 600 });
  await desk.untilState(runId, 'Running');
  clock.set(HOUR_SEC);
  await desk.untilState(runId, 'Succeeded');
});

test('a disk that takes nothing: offers are refused and come again, a result is told all the same', async () => {
  await using desk = await desktops();
  await using machine = await desk.register('desk');
  await allocate(desk.admin, machine, 2);
  const connectionId = await connectionOfAccount(desk.admin, { kind: 'machine', id: machine.id });
  await machine.start();
  const go = join(desk.home, 'go');
  const running = await desk.submit(connectionId, `until [ -e "${go}" ]; do sleep 0.1; done`);
  await desk.untilState(running, 'Running');
  machine.limitFiles('0');
  const waiting = await desk.submit(connectionId, 'true');
  await until(
    'the offer is refused',
    async () => (await desk.codesOf(waiting)).includes('UIFlowAgentNotAvailable'),
    PATIENCE_MS,
  );
  expect(await desk.runOf(waiting)).toMatchObject({ state: 'Queued' });
  writeFileSync(go, '');
  await desk.untilState(running, 'Succeeded');
  machine.limitFiles('unlimited');
  await desk.untilState(waiting, 'Succeeded');
  await until('nothing is in hand', () => machine.inHand().length === 0, PATIENCE_MS);
});

test('a flood of log arrives whole though the service is killed in it', async () => {
  await using desk = await desktops();
  await using machine = await desk.register('desk');
  const connectionId = await connectionOfAccount(desk.admin, { kind: 'machine', id: machine.id });
  await machine.start();
  const flood = 'seq 1 600000; sleep 1; seq 600001 900000';
  const runId = await desk.submit(connectionId, flood);
  await desk.untilState(runId, 'Running');
  await machine.kill();
  await machine.start();
  await desk.untilState(runId, 'Succeeded');
  await until('nothing is in hand', () => machine.inHand().length === 0, PATIENCE_MS);
  const response = await fetch(`${desk.admin.origin}/$api/v1${RUNS_PATH}/${runId}/logs`, {
    headers: { authorization: `Bearer ${API_TOKEN}`, accept: 'text/plain' },
  });
  const log = Buffer.from(await response.arrayBuffer());
  const whole = Array.from({ length: 900_000 }, (_, i) => `${i + 1}\n`).join('');
  expect(log.length).toBe(whole.length);
  expect(sha256(log)).toBe(sha256(Buffer.from(whole)));
});

test.each([
  { kilobytes: 32_000, state: 'Succeeded', code: undefined },
  { kilobytes: 33_000, state: 'Failed', code: 'OutputTooLarge' },
])('outputs of $kilobytes KB: $state', async ({ kilobytes, state, code }) => {
  await using desk = await desktops();
  await using machine = await desk.register('desk');
  const connectionId = await connectionOfAccount(desk.admin, { kind: 'machine', id: machine.id });
  await machine.start();
  const script = `{ printf '{"a":"'; head -c ${kilobytes * 1_024} /dev/zero | tr '\\0' x; printf '"}'; } > "$HALFWAY_OUTPUTS"`;
  const runId = await desk.submit(connectionId, script);
  await desk.untilState(runId, state);
  const run = await desk.runOf(runId);
  expect(Object(run['fault']).code).toBe(code);
  const { outputs } = await desk.admin.get('GET', `${RUNS_PATH}/${runId}/outputs`);
  expect(String(Object(outputs).a ?? '').length).toBe(code === undefined ? kilobytes * 1_024 : 0);
});

test('a copy of a machine while a job runs: both are told, and the job keeps its result', async () => {
  await using desk = await desktops();
  await using machine = await desk.register('desk');
  const connectionId = await connectionOfAccount(desk.admin, { kind: 'machine', id: machine.id });
  await machine.start();
  const go = join(desk.home, 'go');
  const begun = join(desk.home, 'begun');
  const script = `echo >> "${begun}"; until [ -e "${go}" ]; do sleep 0.1; done`;
  const runId = await desk.submit(connectionId, script, { onLost: 'requeue', maxAttempts: 2 });
  await desk.untilState(runId, 'Running');
  const state = join(desk.home, 'copy');
  cpSync(join(desk.home, 'desk'), state, {
    recursive: true,
    filter: source => !source.endsWith('.sock'),
  });
  // As on another computer, with a name and processes of its own.
  change(join(state, 'jobs/journal.jsonl'), /"bootId":"[^"]*"/g, `"bootId":"${randomUUID()}"`);
  change(join(state, 'machine.json'), /"hardwareDigest": *"[^"]*"/g, '"hardwareDigest":"x"');
  await using copy = machine.copyAt(state, join(desk.home, 's-copy'));
  await copy.start();
  await until(
    'both are told',
    () => [machine, copy].every(one => one.output().includes('MachineIdentityConflict')),
    2 * PATIENCE_MS,
  );
  const waiting = await desk.submit(connectionId, 'true');
  writeFileSync(go, '');
  await desk.untilState(runId, 'Succeeded');
  expect(readFileSync(begun, 'utf8')).toBe('\n');
  expect(await desk.runOf(waiting)).toMatchObject({ state: 'Queued' });
});

function change(file: string, pattern: RegExp, text: string): void {
  const before = readFileSync(file, 'utf8');
  expect(before).toMatch(pattern);
  writeFileSync(file, before.replaceAll(pattern, text));
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
