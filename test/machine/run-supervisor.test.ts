import { randomUUID } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ProcessHost } from '../../src/machine/session-hosts/process-host.ts';
import { ANN } from '../support/dispatch.ts';
import { controlBench, startMachine, type ControlBench } from '../support/machine-runs.ts';
import { someFolder } from '../support/some-folder.ts';
import { until } from '../support/within.ts';

const shell = (script: string) => ({ command: ['/bin/sh', '-c', script] });
const simulated = (script: Record<string, unknown>) => ({ kind: 'simulated' as const, script });

/** Until the run's log has this in it. */
const logged = (control: ControlBench, runId: string, text: string): Promise<void> =>
  until(`"${text}" in the log`, async () => (await control.logOf(runId)).includes(text), 20_000);

function isThere(pid: number): boolean {
  return (
    existsSync(`/proc/${pid}`) && !/^State:\sZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  );
}

async function pidIn(control: ControlBench, runId: string, name: string): Promise<number> {
  await logged(control, runId, `${name}=`);
  const found = new RegExp(`${name}=(\\d+)`).exec(await control.logOf(runId));
  return Number(found?.[1]);
}

test('offer() runs a command: log, outputs, exit code and load of the computer all arrive', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(
    shell('cat; echo " to stderr" >&2; echo \'{"sum": 3}\' > "$HALFWAY_OUTPUTS"'),
    { inputs: { a: 1 } },
  );
  await expect(machine.door.offer(offer)).resolves.toMatchObject({ type: 'accept' });
  const run = await control.ended(offer.runId);
  expect(run).toMatchObject({ state: 'Succeeded', exitCode: 0 });
  expect(run.accountName).toBeTypeOf('string');
  expect(run.cpuPercent).toBeTypeOf('number');
  expect(run.memoryMb).toBeGreaterThan(0);
  await expect(control.logOf(offer.runId)).resolves.toBe('{"a":1} to stderr\n');
  await expect(control.outputsOf(offer.runId)).resolves.toMatchObject({ outputs: { sum: 3 } });
  await until('nothing in hand', () => machine.door.journal().length === 0);
  await until('no files', () => readdirSync(join(machine.folder, 'runs')).length === 0);
});

test('offer() gives a job its run, its inputs in a file, and none of the files of the service', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(
    shell(
      'echo "$HALFWAY_RUN_ID $HALFWAY_ATTEMPT"; cat "$HALFWAY_INPUTS"; echo; echo "$TRACEPARENT"; ls -l /proc/self/fd',
    ),
    { inputs: { b: [1] }, trace: { traceparent: '00-aa-bb-01' } },
  );
  await machine.door.offer(offer);
  await control.ended(offer.runId);
  const [ids, inputs, trace, ...files] = (await control.logOf(offer.runId)).split('\n');
  expect(ids).toBe(`${offer.runId} 1`);
  expect(inputs).toBe('{"b":[1]}');
  expect(trace).toBe('00-aa-bb-01');
  expect(files.filter(file => file.includes(machine.folder))).toEqual([]);
});

test('offer() fails a job by its exit code, and one that cannot be found', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offers = [
    await control.submitted(shell('exit 3')),
    await control.submitted({ command: ['/nowhere/to/be/found'] }),
  ];
  for (const offer of offers) await machine.door.offer(offer);
  const ends = await Promise.all(offers.map(({ runId }) => control.ended(runId)));
  expect(ends[0]).toMatchObject({ state: 'Failed', exitCode: 3 });
  expect(ends[1]?.state).toBe('Failed');
  expect(ends[1]?.exitCode).toBe(127);
});

test('offer() tells progress while the job runs, lines that are none passed over', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(
    shell(
      'echo nonsense >> "$HALFWAY_PROGRESS"; echo \'{"step":"one","done":1,"total":2}\' >> "$HALFWAY_PROGRESS"; sleep 60',
    ),
  );
  await machine.door.offer(offer);
  await until('progress', () => control.calls.includes('progress'), 20_000);
  const { entries } = await control.repository.log(`progress:${offer.runId}`, {
    after: 0,
    limit: 5,
  });
  expect(JSON.parse(entries[0]?.text ?? '')).toMatchObject({ step: 'one', done: 1, total: 2 });
});

test('offer() answers the same again: accepted, refused, and when it is over', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control, {
    host: new ProcessHost({ unattended: 1, attended: 0 }),
  });
  const offer = await control.submitted(simulated({ steps: [{ waitMs: 100 }] }));
  const other = await control.submitted(simulated({}));
  const [first, again, refused] = await Promise.all([
    machine.door.offer(offer),
    machine.door.offer(offer),
    machine.door.offer(other),
  ]);
  expect(first).toMatchObject({ type: 'accept', fence: 1 });
  expect(again).toEqual(first);
  expect(refused).toMatchObject({ code: 'UIFlowAlreadyRunning', retryAfterSeconds: 20 });
  await control.ended(offer.runId);
  await until('nothing in hand', () => machine.door.journal().length === 0);
  await expect(machine.door.offer(offer)).resolves.toEqual(first);
  await expect(machine.door.offer(other)).resolves.toEqual(refused);
  expect(control.calls.filter(call => call === 'start')).toHaveLength(1);
});

test('offer() refuses a fence that is not above all it has seen of the run', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(simulated({}));
  await machine.door.offer({ ...offer, fence: 7, attempt: 7 });
  await expect(machine.door.offer({ ...offer, fence: 6, attempt: 6 })).resolves.toMatchObject({
    type: 'refuse',
    code: 'LeaseLost',
  });
  await machine.restart();
  await expect(machine.door.offer({ ...offer, fence: 5, attempt: 5 })).resolves.toMatchObject({
    code: 'LeaseLost',
  });
});

test('offer() refuses what the machine is too old for, has no mode for, and all while draining', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control, {
    host: new ProcessHost({ unattended: 4, attended: 0 }),
  });
  const codeFor = async (change: object, job: object = {}) => {
    const answer = await machine.door.offer(
      await control.submitted({ ...simulated({}), ...job }, change),
    );
    return answer.type === 'refuse' ? answer.code : answer.type;
  };
  await expect(codeFor({}, { minAgentVersion: '1.0.1' })).resolves.toBe('JobSchemaTooNew');
  await expect(codeFor({}, { minAgentVersion: '1.0' })).resolves.toBe('accept');
  await expect(codeFor({ mode: 'attended' })).resolves.toBe('UIFlowAlreadyRunning');
  machine.door.setDraining(true);
  await expect(codeFor({})).resolves.toBe('MachineInMaintenance');
  machine.door.setDraining(false);
  await expect(codeFor({})).resolves.toBe('accept');
});

test('offer() launches nothing when the start is not granted, and says that nothing ran', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(shell('echo ran'));
  await control.control.cancel(ANN, offer.runId, 'stop');
  await expect(machine.door.offer(offer)).resolves.toMatchObject({ type: 'accept' });
  await until('nothing in hand', () => machine.door.journal().length === 0);
  expect(control.calls).toEqual(['start', 'startInterrupted']);
});

test('offer() asks for the start until it is answered, also when the answers are lost', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  control.channel.isReachable = false;
  const offer = await control.submitted(simulated({ outputs: { a: 1 } }));
  await machine.door.offer(offer);
  await until('three tries', () => control.calls.length >= 3);
  expect(machine.door.journal()).toMatchObject([{ state: 'ACCEPTED' }]);
  control.channel.isReachable = true;
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Succeeded' });
});

test('cancel() asks a job to stop, and what stops by itself is cancelled', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(
    shell('trap "echo stopping; exit 0" TERM; echo up; while :; do sleep 0.05; done'),
  );
  await machine.door.offer(offer);
  await logged(control, offer.runId, 'up');
  await control.control.cancel(ANN, offer.runId, 'stop');
  machine.door.cancel({
    v: 1,
    type: 'cancel',
    runId: offer.runId,
    mode: 'stop',
    graceSeconds: 10,
    by: 'ann',
  });
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Cancelled' });
  await expect(control.logOf(offer.runId)).resolves.toContain('stopping');
});

test('cancel() ends what does not stop, with all that it has started and hidden', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(
    shell(
      'trap "" TERM; setsid sh -c "echo away=\\$\\$; exec sleep 300" & sh -c "setsid sleep 300 & echo orphan=\\$!"; echo self=$$; while :; do sleep 1; done',
    ),
  );
  await machine.door.offer(offer);
  const pids = await Promise.all(
    ['away', 'orphan', 'self'].map(name => pidIn(control, offer.runId, name)),
  );
  expect(pids.map(isThere)).toEqual([true, true, true]);
  await control.control.cancel(ANN, offer.runId, 'stop');
  const { runId } = offer;
  machine.door.cancel({ v: 1, type: 'cancel', runId, mode: 'stop', graceSeconds: 1, by: 'ann' });
  await expect(control.ended(runId)).resolves.toMatchObject({ state: 'Cancelled' });
  expect(pids.map(isThere)).toEqual([false, false, false]);
});

test('a job that leaves processes behind is over when it has ended, and so are they', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(shell('setsid sleep 300 & echo left=$!; exit 0'));
  await machine.door.offer(offer);
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Succeeded' });
  expect(isThere(await pidIn(control, offer.runId, 'left'))).toBe(false);
});

test('a safe stop shows as a file, and the job ends as it likes', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(
    shell('echo up; while [ ! -e "$HALFWAY_SAFE_STOP" ]; do sleep 0.05; done; echo safely'),
  );
  await machine.door.offer(offer);
  await logged(control, offer.runId, 'up');
  const { runId } = offer;
  await control.control.cancel(ANN, runId, 'safe-stop');
  machine.door.cancel({
    v: 1,
    type: 'cancel',
    runId,
    mode: 'safe-stop',
    graceSeconds: 10,
    by: 'a',
  });
  await expect(control.ended(runId)).resolves.toMatchObject({ state: 'Succeeded' });
  await expect(control.logOf(runId)).resolves.toContain('safely');
});

test('a run that takes longer than it may is stopped and has timed out', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(shell('exec sleep 300'));
  await machine.door.offer({ ...offer, limits: { ...offer.limits, runSeconds: 1 } });
  await expect(control.ended(offer.runId)).resolves.toMatchObject({
    state: 'TimedOut',
    fault: { code: 'DesktopFlowsActionTimeout' },
  });
});

test('a killed executor fails its run and nothing else, and its job ends with it', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const other = await control.submitted(simulated({ steps: [{ waitMs: 1_500 }] }));
  await machine.door.offer(other);
  const offer = await control.submitted(
    shell('setsid sleep 300 & echo left=$! executor=$PPID job=$$; exec sleep 300'),
  );
  await machine.door.offer(offer);
  const { runId } = offer;
  const pids = await Promise.all(['left', 'job'].map(name => pidIn(control, runId, name)));
  process.kill(await pidIn(control, runId, 'executor'), 'SIGKILL');
  await expect(control.ended(runId)).resolves.toMatchObject({
    state: 'Failed',
    fault: { code: 'AgentNotReachable' },
  });
  expect(pids.map(isThere)).toEqual([false, false]);
  await expect(control.ended(other.runId)).resolves.toMatchObject({ state: 'Succeeded' });
});

test('outputs that are too large, or no object, fail the run', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const large = await control.submitted(
    shell('head -c 2000000 /dev/zero | tr "\\0" 1 > "$HALFWAY_OUTPUTS"'),
  );
  const odd = await control.submitted(shell('echo "[1" > "$HALFWAY_OUTPUTS"'));
  await machine.door.offer(large);
  await machine.door.offer(odd);
  await expect(control.ended(large.runId)).resolves.toMatchObject({
    state: 'Failed',
    fault: { code: 'OutputTooLarge' },
  });
  await expect(control.ended(odd.runId)).resolves.toMatchObject({
    state: 'Failed',
    fault: { code: 'DesktopFlowMalformedMachineResponse' },
  });
});

test('a flood of log is cut with a line that says so, and holds nobody up', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(shell('head -c 30000000 /dev/zero | tr "\\0" x'));
  await machine.door.offer(offer);
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Succeeded' });
  await until('the end of the log', () => machine.door.journal().length === 0, 20_000);
  const log = await control.logOf(offer.runId);
  expect(log.length).toBeLessThanOrEqual(offer.limits.logBytes);
  expect(log).toMatch(
    /^x{1000000,}\n\[halfway\] the log is cut here: \d{8} bytes more were written\n$/,
  );
});

test('a probe signs in and brings nothing back', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted({ kind: 'probe' });
  await machine.door.offer(offer);
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Succeeded' });
  await expect(control.outputsOf(offer.runId)).resolves.toBeUndefined();
});

test('a result and a log are told until they are acknowledged, over a restart of the service', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(shell('echo before; sleep 1; echo after'));
  await machine.door.offer(offer);
  await logged(control, offer.runId, 'before');
  control.channel.isReachable = false;
  await until('a result to tell', () => machine.door.journal()[0]?.state === 'RESULT', 20_000);
  await machine.restart();
  expect(machine.door.journal()).toMatchObject([{ runId: offer.runId, state: 'RESULT' }]);
  control.channel.isReachable = true;
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Succeeded' });
  await until('nothing in hand', () => machine.door.journal().length === 0, 20_000);
  await expect(control.logOf(offer.runId)).resolves.toBe('before\nafter\n');
});

test('close() ends no job, and recover() takes it up again with its log, cancel and result', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offers = [
    await control.submitted(
      shell('echo one; sleep 2; echo two; echo \'{"a":1}\' > "$HALFWAY_OUTPUTS"'),
    ),
    await control.submitted(shell('echo up; exec sleep 300')),
  ];
  for (const offer of offers) await machine.door.offer(offer);
  const [first = offers[0], second = offers[1]] = offers;
  if (first === undefined || second === undefined) throw new Error('two were submitted');
  await logged(control, first.runId, 'one');
  await logged(control, second.runId, 'up');
  await machine.restart();
  expect(machine.door.journal()).toMatchObject([{ state: 'LAUNCHED' }, { state: 'LAUNCHED' }]);
  await expect(control.ended(first.runId)).resolves.toMatchObject({ state: 'Succeeded' });
  await expect(control.logOf(first.runId)).resolves.toBe('one\ntwo\n');
  await expect(control.outputsOf(first.runId)).resolves.toMatchObject({ outputs: { a: 1 } });
  const { runId } = second;
  await control.control.cancel(ANN, runId, 'kill');
  machine.door.cancel({ v: 1, type: 'cancel', runId, mode: 'kill', graceSeconds: 0, by: 'ann' });
  await expect(control.ended(runId)).resolves.toMatchObject({ state: 'Cancelled' });
});

test('recover() says nothing of runs that another computer began, and may go on with', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const running = await control.submitted(shell('echo up; sleep 2'));
  await machine.door.offer(running);
  await logged(control, running.runId, 'up');
  control.channel.isReachable = false;
  const accepted = await control.submitted(shell('true'));
  await machine.door.offer(accepted);
  using elsewhere = someFolder();
  const folder = join(elsewhere.path, 'jobs');
  cpSync(machine.folder, folder, { recursive: true });
  const journal = join(folder, 'journal.jsonl');
  const bootId = `"bootId":"${randomUUID()}"`;
  writeFileSync(journal, readFileSync(journal, 'utf8').replaceAll(/"bootId":"[^"]*"/g, bootId));
  control.channel.isReachable = true;
  const before = control.calls.length;
  await using copy = await startMachine(control, { folder, isFromElsewhere: true });
  expect(copy.door.journal()).toEqual([]);
  for (const { runId } of [running, accepted]) {
    await expect(control.ended(runId)).resolves.toMatchObject({ state: 'Succeeded', starts: 1 });
  }
  expect(control.calls.slice(before)).not.toContain('startInterrupted');
});

test('cancel by the answer to a renewal ends a job as the command does', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(shell('echo up; exec sleep 300'));
  await machine.door.offer(offer);
  await logged(control, offer.runId, 'up');
  await control.control.cancel(ANN, offer.runId, 'kill');
  // The first renewal of the next process comes at once.
  await machine.restart();
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Cancelled' });
});
