import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { writeJson } from '../../src/machine/executor/frames.ts';
import { controlBench, startMachine } from '../support/machine-runs.ts';
import { quickClock } from '../support/quick-clock.ts';
import { someFolder } from '../support/some-folder.ts';
import { until } from '../support/within.ts';

const shell = (script: string) => ({ command: ['/bin/sh', '-c', script] });

async function executorOf(
  control: Awaited<ReturnType<typeof controlBench>>,
  runId: string,
): Promise<number> {
  let found: string | undefined;
  await until(
    'the executor',
    async () => {
      found = /executor=(\d+)/.exec(await control.logOf(runId))?.[1];
      return found !== undefined;
    },
    20_000,
  );
  return Number(found);
}

test('an executor that does not answer any more is ended, and its run has failed', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control, { clock: quickClock(10) });
  const offer = await control.submitted(shell('echo executor=$PPID; exec sleep 300'));
  await machine.door.offer(offer);
  process.kill(await executorOf(control, offer.runId), 'SIGSTOP');
  const { state, fault } = await control.ended(offer.runId);
  expect([state, fault?.code]).toEqual(['Failed', 'UnresponsiveAgent']);
});

test('a run whose executor ended while the service was away is lost, with the reason', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(shell('echo executor=$PPID; exec sleep 300'));
  await machine.door.offer(offer);
  const executor = await executorOf(control, offer.runId);
  await machine.door.close();
  process.kill(executor, 'SIGKILL');
  await until('its end', () => !existsSync(`/proc/${executor}`));
  await machine.restart();
  const { state, fault } = await control.ended(offer.runId);
  expect([state, fault?.message]).toEqual([
    'Lost',
    'The executor ended while the machine service was away',
  ]);
});

test('a run from before a restart of the computer is lost, whoever has its process number now', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control);
  const offer = await control.submitted(shell('echo executor=$PPID; exec sleep 300'));
  await machine.door.offer(offer);
  await executorOf(control, offer.runId);
  await machine.door.close();
  const path = join(machine.folder, 'journal.jsonl');
  const journal = readFileSync(path, 'utf8');
  writeFileSync(path, journal.replaceAll(/"bootId":"[^"]+"/g, '"bootId":"another"'));
  await machine.restart();
  const { state, fault } = await control.ended(offer.runId);
  expect([state, fault?.message]).toEqual(['Lost', 'The computer was restarted during the run']);
});

test('a service that ended between the launch and the go tells it to go when it is back', async () => {
  const control = await controlBench();
  using sockets = someFolder();
  await using machine = await startMachine(control, { socketFolder: sockets.path });
  const offer = await control.submitted({
    kind: 'simulated',
    script: { steps: [{ waitMs: 1_000 }], outputs: { a: 1 } },
  });
  await machine.door.offer(offer);
  await until('the launch', () => machine.door.journal()[0]?.state === 'LAUNCHED', 20_000);
  // Whether it was told by then or not, it runs once and to its end.
  await machine.restart();
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Succeeded' });
});

test('strangers at the socket of a run are heard by nobody', async () => {
  const control = await controlBench();
  using sockets = someFolder();
  await using machine = await startMachine(control, { socketFolder: sockets.path });
  const offer = await control.submitted({
    kind: 'simulated',
    script: { steps: [{ waitMs: 1_500 }] },
  });
  await machine.door.offer(offer);
  await until('it runs', async () => (await control.state(offer.runId)) === 'Running', 20_000);
  const [name = ''] = readdirSync(sockets.path);
  const stranger = connect(join(sockets.path, name));
  await once(stranger, 'connect');
  const hello = { type: 'hello', pid: process.pid, startTicks: 1, uid: 0, accountName: 'x' };
  writeJson(stranger, { ...hello, token: 'guessed', hasBegun: true });
  writeJson(stranger, { type: 'finished' });
  await once(stranger, 'close');
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Succeeded' });
});
