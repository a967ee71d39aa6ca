import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openDurableFile, type DurableFile } from '../../src/machine/durable-file.ts';
import { Journal } from '../../src/machine/journal.ts';
import { controlBench, startMachine } from '../support/machine-runs.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { someFolder } from '../support/some-folder.ts';
import { until } from '../support/within.ts';

const FULL = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });

/** A disk that can be made to take nothing, or half of what comes. */
function fullableDisk() {
  const disk = { isFull: (_text: string): boolean => false, openFile };
  async function openFile(path: string): ReturnType<typeof openDurableFile> {
    const { file, text } = await openDurableFile(path);
    const fullable: DurableFile = {
      append: line => (disk.isFull(line) ? Promise.reject(FULL) : file.append(line)),
      replace: all => (disk.isFull(all) ? Promise.reject(FULL) : file.replace(all)),
      get sizeBytes() {
        return file.sizeBytes;
      },
      close: () => file.close(),
    };
    return { file: fullable, text };
  }
  return disk;
}

const job = { kind: 'simulated', script: { outputs: { a: 1 } } } as const;

test('an offer that cannot be written down is refused, may come again, and nothing is left of it', async () => {
  const control = await controlBench();
  const disk = fullableDisk();
  await using machine = await startMachine(control, { openFile: disk.openFile });
  disk.isFull = () => true;
  const offer = await control.submitted(job);
  const answer = await machine.door.offer(offer);
  expect(answer).toMatchObject({ type: 'refuse', code: 'UIFlowAgentNotAvailable' });
  expect(machine.door.journal()).toEqual([]);
  const fault = { code: 'UIFlowAgentNotAvailable' } as const;
  await control.changes.advance(offer.runId, {
    type: 'refused',
    fence: 1,
    fault,
    hasOthers: false,
  });
  await expect(control.state(offer.runId)).resolves.toBe('Queued');
  disk.isFull = () => false;
  await machine.door.offer(await control.assign(offer.runId));
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Succeeded' });
});

test.each(['GRANTED', 'LAUNCHED'])(
  'a run whose %s cannot be written down is not launched, and waits again',
  async type => {
    const control = await controlBench();
    const disk = fullableDisk();
    await using machine = await startMachine(control, { openFile: disk.openFile });
    disk.isFull = line => line.includes(`"type":"${type}"`);
    const offer = await control.submitted(job);
    await machine.door.offer(offer);
    await until('given back', async () => (await control.state(offer.runId)) === 'Queued', 20_000);
    await expect(control.logOf(offer.runId)).resolves.toBe('');
    expect(control.calls).not.toContain('result');
  },
);

test('a result that cannot be written down is told all the same', async () => {
  const control = await controlBench();
  const disk = fullableDisk();
  await using machine = await startMachine(control, { openFile: disk.openFile });
  disk.isFull = line => line.includes('"type":"RESULT"');
  const offer = await control.submitted(job);
  await machine.door.offer(offer);
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Succeeded' });
  await until('nothing in hand', () => machine.door.journal().length === 0, 20_000);
});

test('write() leaves no half of a line behind that a later one would be read with', async () => {
  using folder = someFolder();
  const path = join(folder.path, 'journal');
  const options = { clock: new FakeClock(), log: silentLogger };
  const { file } = await openDurableFile(path);
  await file.append('{"type":"VERSION","connectionId":"c1","version":2}\n{"type":"VERS');
  await file.close();
  const journal = await Journal.open(path, options);
  expect(journal.versionOf('c1')).toBe(2);
  await journal.write({ type: 'VERSION', connectionId: 'c2', version: 3 });
  await journal.close();
  const again = await Journal.open(path, options);
  expect([again.versionOf('c1'), again.versionOf('c2')]).toEqual([2, 3]);
  await again.close();
});
