import { expect, test } from 'vitest';
import { LogText } from '../../src/portal/log-text.ts';

function shown(...chunks: readonly (readonly [attempt: number, bytes: Uint8Array])[]): string {
  const log = new LogText();
  return chunks
    .map(([attempt, bytes], index) =>
      log.push({
        number: index + 1,
        attempt,
        offset: 0,
        data: Buffer.from(bytes).toString('base64'),
      }),
    )
    .join('');
}

test('LogText puts a character together that was cut between two chunks', () => {
  const bytes = Buffer.from('a€b');
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    expect(shown([1, bytes.subarray(0, cut)], [1, bytes.subarray(cut)])).toBe('a€b');
  }
});

test('LogText leaves out what only terminals understand, wherever it was cut', () => {
  const bytes = Buffer.from('\u001B[1;32mgreen\u001B[0m\r\nnext\rover\u001B[2Kend');
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    const text = shown([1, bytes.subarray(0, cut)], [1, bytes.subarray(cut)]);
    // A line's end that was cut is two ends: no bytes are waited for that may never come.
    expect(text.replace('green\n\nnext', 'green\nnext')).toBe('green\nnext\noverend');
  }
});

test('LogText tells attempts apart', () => {
  const text = shown([1, Buffer.from('one\n')], [2, Buffer.from('two\n')]);
  expect(text).toBe('one\n\n— attempt 2 —\ntwo\n');
});
