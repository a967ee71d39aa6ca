import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { JobLog } from '../../../src/machine/executor/job-log.ts';
import { readOutputs } from '../../../src/machine/executor/job-files.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { someFolder } from '../../support/some-folder.ts';

function written(bytesMax: number, chunks: readonly string[]): string {
  using folder = someFolder();
  const path = join(folder.path, 'log');
  const file = openSync(path, 'a');
  const log = new JobLog(file, bytesMax, new FakeClock(), () => undefined);
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
  const log = new JobLog(full, 1_000, new FakeClock(), () => undefined);
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

test('a log is cut before the line that has no room, not in it', () => {
  const lines = written(
    1_000,
    Array.from({ length: 50 }, () => `${'x'.repeat(30)}\n${'y'.repeat(30)}\n`),
  ).split('\n');
  expect(new Set(lines.slice(0, -3).map(line => line.length))).toEqual(new Set([30]));
  expect(lines.at(-2)).toMatch(/^\[halfway\] the log is cut here/);
});

test('a stream does not tear a line of another, unless that takes longer than a second', () => {
  using folder = someFolder();
  const path = join(folder.path, 'log');
  const file = openSync(path, 'a');
  const clock = new FakeClock();
  const log = new JobLog(file, 1_000_000, clock, () => undefined);
  const [one, other] = [log.stream([]), log.stream([])];
  const write = (stream: typeof one, text: string): void => stream.write(Buffer.from(text));
  const added = (): string => {
    const text = readFileSync(path, 'utf8').slice(length);
    length += text.length;
    return text;
  };
  let length = 0;
  write(one, 'pass');
  write(other, 'a warning\nand ');
  expect(added()).toBe('pass');
  write(one, 'word\n');
  expect(added()).toBe('word\na warning\nand ');
  write(one, 'later\n');
  write(other, 'another\n');
  expect(added()).toBe('another\nlater\n');
  write(one, 'Copying ');
  write(other, 'slow\n');
  clock.advance(999);
  expect(added()).toBe('Copying ');
  clock.advance(1);
  expect(added()).toBe('slow\n');
  write(one, 'x');
  write(other, 'y'.repeat(100_000));
  expect(added().length).toBe(100_001);
  write(one, 'z');
  one.end();
  other.end();
  log.end();
  expect(added()).toBe('z');
  expect(clock.pendingTasks).toBe(0);
  closeSync(file);
});
