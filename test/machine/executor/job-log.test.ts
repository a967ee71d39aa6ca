import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { JobLog } from '../../../src/machine/executor/job-log.ts';
import { readOutputs } from '../../../src/machine/executor/job-files.ts';
import { someFolder } from '../../support/some-folder.ts';

function written(bytesMax: number, chunks: readonly string[]): string {
  using folder = someFolder();
  const path = join(folder.path, 'log');
  const file = openSync(path, 'a');
  const log = new JobLog(file, bytesMax, () => undefined);
  const stream = log.stream([Buffer.from('secret')]);
  for (const chunk of chunks) stream.write(Buffer.from(chunk));
  stream.end();
  log.end();
  closeSync(file);
  return readFileSync(path, 'utf8');
}

test('stream() masks, and what is within the limit is all there', () => {
  expect(written(1_000, ['a sec', 'ret b', '\n'])).toBe('a *** b\n');
});

test('end() says how much is missing of a log that was cut, within the limit', () => {
  const log = written(
    1_000,
    Array.from({ length: 50 }, () => 'x'.repeat(99)),
  );
  expect(log.length).toBeLessThanOrEqual(1_000);
  const [kept = '', notice] = log.split('\n');
  expect(notice).toBe(
    `[halfway] the log is cut here: ${50 * 99 - kept.length} bytes more were written`,
  );
});

test('a disk that takes nothing does not hold up a job', () => {
  const full = openSync('/dev/full', 'w');
  const log = new JobLog(full, 1_000, () => undefined);
  const stream = log.stream([]);
  stream.write(Buffer.from('lost'));
  stream.end();
  expect(() => log.end()).not.toThrow();
  closeSync(full);
});

test('readOutputs() is not held up or led astray by what is no file of the run', () => {
  expect(readOutputs('/dev/zero', 10)).toEqual({ type: 'outputs', outputs: undefined });
  using folder = someFolder();
  expect(readOutputs(join(folder.path, 'none'), 10).type).toBe('outputs');
});
