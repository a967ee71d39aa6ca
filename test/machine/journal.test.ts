import { appendFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Journal } from '../../src/machine/journal.ts';
import { lockFolder } from '../../src/machine/folder-lock.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { someFolder } from '../support/some-folder.ts';

const accepted = (runId: string) =>
  ({
    type: 'ACCEPTED',
    runId,
    attempt: 1,
    fence: 1,
    mode: 'unattended',
    jobRef: 'j',
    atMs: 0,
  }) as const;

test('open() reads what was written, tells of damage, and goes on', async () => {
  using folder = someFolder();
  const path = join(folder.path, 'journal');
  const faults: object[] = [];
  const log = { ...silentLogger, error: (fields: object) => void faults.push(fields) };
  const first = await Journal.open(path, { clock: new FakeClock(), log });
  await first.write(accepted('a'));
  await first.close();
  appendFileSync(
    path,
    'no json\n{"type":"WHAT"}\n{"type":"GRANTED","runId":"b","attempt":1,"fence":1}\n',
  );
  const again = await Journal.open(path, { clock: new FakeClock(), log });
  expect(again.entries()).toMatchObject([{ runId: 'a', state: 'ACCEPTED' }]);
  expect(faults).toEqual([{ lines: 3 }]);
  await again.write({ type: 'GRANTED', runId: 'a', attempt: 1, fence: 1 });
  await again.close();
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test('write() keeps the file short, and nothing in hand is lost by that', async () => {
  using folder = someFolder();
  const path = join(folder.path, 'journal');
  const options = { clock: new FakeClock(8 * 24 * 3_600_000), log: silentLogger };
  const journal = await Journal.open(path, options);
  await journal.write(accepted('kept'));
  const writes: Promise<void>[] = [];
  for (let count = 0; count < 1_500; count += 1) {
    const runId = `run-${count}-${'x'.repeat(100)}`;
    writes.push(journal.write(accepted(runId)));
    writes.push(journal.write({ type: 'OVER', runId, attempt: 1, fence: 1, atMs: 0 }));
  }
  await Promise.all(writes);
  expect(statSync(path).size).toBeLessThan(300_000);
  await journal.close();
  const again = await Journal.open(path, options);
  expect(again.entries()).toMatchObject([{ runId: 'kept' }]);
  await again.close();
});

test('lockFolder() lets one have a folder, and the next when that is done', () => {
  using folder = someFolder();
  const lock = lockFolder(folder.path);
  expect(() => lockFolder(folder.path)).toThrow(
    new RegExp(`the machine service with the process number ${process.pid} has it`),
  );
  lock[Symbol.dispose]();
  lockFolder(folder.path)[Symbol.dispose]();
});
