import { createHash } from 'node:crypto';
import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { LogMask } from '../../src/machine/log-mask.ts';
import { LogUpload } from '../../src/machine/log-upload.ts';
import { ReportError, type LogChunk, type LogAnswer } from '../../src/machine/ports.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { someFolder } from '../support/some-folder.ts';
import { until, within } from '../support/within.ts';

/** Takes chunks as the control plane does: in order, once; `disturb` may throw or answer in its place. */
function uploadOf(options: {
  readonly text: string;
  readonly known?: string;
  readonly chunkBytes?: number;
  readonly disturb?: (call: number, chunk: LogChunk) => LogAnswer | undefined;
  /** Undefined: none; null: it cannot be opened any more. */
  readonly password?: string | null;
}) {
  const folder = someFolder();
  const path = join(folder.path, 'log');
  writeFileSync(path, options.text);
  const taken = { text: options.known ?? '', calls: 0 };
  const log = async (chunk: LogChunk): Promise<LogAnswer> => {
    taken.calls += 1;
    const answer = options.disturb?.(taken.calls, chunk);
    if (answer !== undefined) return Promise.resolve(answer);
    expect(createHash('sha256').update(chunk.bytes).digest('hex')).toBe(chunk.sha256);
    const isNext = chunk.offset === taken.text.length;
    if (isNext) taken.text += Buffer.from(chunk.bytes).toString('latin1');
    const isTaken = isNext || chunk.offset + chunk.bytes.length <= taken.text.length;
    return { isTaken, nextOffset: taken.text.length, isTruncated: false };
  };
  const closing = new AbortController();
  let masks = 0;
  const about = { runId: 'a', attempt: 1, fence: 1 };
  const upload = new LogUpload(about, {
    path,
    chunkBytes: options.chunkBytes ?? 10,
    reporter: { log },
    clock: systemClock,
    log: silentLogger,
    signal: closing.signal,
    openMask: () => {
      const { password } = options;
      masks += 1;
      if (password === null) return Promise.resolve(undefined);
      return Promise.resolve(new LogMask(password === undefined ? [] : [Buffer.from(password)]));
    },
  });
  return {
    upload,
    taken,
    path,
    closing,
    masks: () => masks,
    [Symbol.dispose]: () => folder[Symbol.dispose](),
  };
}

test('a growing file arrives whole and in chunks of at most the size that was given', async () => {
  const sizes: number[] = [];
  using it = uploadOf({
    text: 'x'.repeat(25),
    disturb: (_call, { bytes }) => void sizes.push(bytes.length),
  });
  appendFileSync(it.path, 'y'.repeat(12));
  it.upload.grown();
  it.upload.complete();
  await within('the upload', it.upload.done);
  expect(it.taken.text).toBe('x'.repeat(25) + 'y'.repeat(12));
  expect(Math.max(...sizes)).toBe(10);
});

test('after a restart of the service it goes on where the control plane is', async () => {
  const text = 'abcdefghij'.repeat(10);
  using it = uploadOf({ text, known: text.slice(0, 83) });
  it.upload.complete();
  await within('the upload', it.upload.done);
  expect(it.taken.text).toBe(text);
  // The first one only asks where it is.
  expect(it.taken.calls).toBe(3);
});

test('a gap is filled from where the answer says, and a lost answer changes nothing', async () => {
  const text = '0123456789'.repeat(5);
  using it = uploadOf({
    text,
    disturb: call => {
      if (call === 3) throw new ReportError('Unreachable', false);
      return call === 2 ? { isTaken: false, nextOffset: 0, isTruncated: false } : undefined;
    },
  });
  // The second answer claims that nothing is there any more; what is known is passed over.
  it.upload.complete();
  await within('the upload', it.upload.done);
  expect(it.taken.text).toBe(text);
});

test.each([
  ['is not wanted any more', () => ({ isTaken: true, nextOffset: 10, isTruncated: true }), 1],
  ['makes no progress', () => ({ isTaken: false, nextOffset: 0, isTruncated: false }), 6],
  [
    'is refused for good',
    () => {
      throw new ReportError('LeaseLost', true);
    },
    1,
  ],
])('an upload that %s ends', async (_name, disturb, calls) => {
  using it = uploadOf({ text: 'x'.repeat(100), disturb });
  await within('the upload', it.upload.done);
  expect(it.taken.calls).toBe(calls);
});

test('an upload of nothing is done when there will be no more, or the service ends', async () => {
  using empty = uploadOf({ text: '' });
  empty.upload.complete();
  await within('the upload', empty.upload.done);
  using closed = uploadOf({ text: '' });
  closed.closing.abort();
  await within('the upload', closed.upload.done);
  expect([empty.taken.calls, closed.taken.calls]).toEqual([0, 0]);
});

test.each([1, 3, 7, 8, 10, 1_000])(
  'a password is masked wherever chunks of %i bytes cut it, and all else is as it was',
  async chunkBytes => {
    const text = 'hunter22 a hunter22hunter22 b hunter2 hunter22';
    using it = uploadOf({ text, chunkBytes, password: 'hunter22' });
    it.upload.complete();
    await within('the upload', it.upload.done);
    const stars = '*'.repeat(8);
    expect(it.taken.text).toBe(`${stars} a ${stars}${stars} b hunter2 ${stars}`);
    expect(it.masks()).toBe(1);
  },
);

test('a password that is not written to its end is not shown before what follows is known', async () => {
  using it = uploadOf({ text: 'a hunter', chunkBytes: 1_000, password: 'hunter22' });
  await until('the first chunk', () => it.taken.text !== '');
  it.upload.grown();
  appendFileSync(it.path, '22 b');
  it.upload.grown();
  await until('the second chunk', () => it.taken.text.length > 2);
  appendFileSync(it.path, ' hunter');
  it.upload.complete();
  await within('the upload', it.upload.done);
  expect(it.taken.text).toBe('a ******** b hunter');
});

test.each([0, 1, 3, 6, 10, 11])(
  'after a restart the rest is masked as if there had been none, from byte %i on',
  async known => {
    const whole = 'a ******** b';
    using it = uploadOf({
      text: 'a hunter22 b',
      known: whole.slice(0, known),
      chunkBytes: 4,
      password: 'hunter22',
    });
    it.upload.complete();
    await within('the upload', it.upload.done);
    expect(it.taken.text).toBe(whole);
  },
);

test.each(['', 'said before\n', 'x'.repeat(150)])(
  'of a log whose password cannot be opened any more nothing is sent but a line, at the end',
  async known => {
    const text = `${known}${'hunter22 '.repeat(40)}`;
    using it = uploadOf({ text, known, password: null });
    await until('the question', () => it.masks() === 1);
    it.upload.grown();
    expect(it.taken.calls).toBe(0);
    it.upload.complete();
    await within('the upload', it.upload.done);
    const rest = it.taken.text.slice(known.length);
    expect(rest).toMatch(/^\n\[halfway\] the rest of the log is withheld: [^\n]+\n$/);
    expect(it.taken.text.startsWith(known)).toBe(true);
  },
);

test('a log that is there already needs no line, whether or not its password can be opened', async () => {
  using it = uploadOf({ text: 'all of it', known: 'all of it', password: null });
  it.upload.complete();
  await within('the upload', it.upload.done);
  expect(it.taken).toEqual({ text: 'all of it', calls: 1 });
});
