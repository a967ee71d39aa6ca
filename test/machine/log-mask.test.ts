import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Offer } from '../../src/jobs/messages.ts';
import { LogMask, openLogMask } from '../../src/machine/log-mask.ts';
import { noOpener, offerOf } from '../support/machine-runs.ts';
import { dispatchBench } from '../support/dispatch.ts';
import { silentLogger } from '../support/silent-logger.ts';

function maskOf(...secrets: readonly string[]): LogMask {
  return new LogMask(secrets.map(secret => Buffer.from(secret)));
}

test.each([
  ['a secret', ['hunter22'], 'say hunter22 ä', 'say ******** ä'],
  ['bytes, not letters', ['pä55'], 'x pä55 y', 'x ***** y'],
  ['one that overlaps itself', ['aaaa'], 'aaaaaa b', '****** b'],
  ['the form in JSON', ['a "b" c'], '{"p":"a \\"b\\" c"}', '{"p":"*********"}'],
  ['the form in addresses', ['p@ss/w'], '?p=p%40ss%2Fw&', '?p=**********&'],
  ['one that is too short', ['abc'], 'abc', 'abc'],
  ['none', [], 'abc', 'abc'],
])('shown(): %s', (_name, secrets, text, shown) => {
  expect(
    maskOf(...secrets)
      .shown(Buffer.from(text), true)
      .toString(),
  ).toBe(shown);
});

test('shown() of any part and its margins is that part of the whole, and no secret', () => {
  const secrets = ['abab', 'babc', 'ccccc', 'abcabc'];
  const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 60 });
  fc.assert(
    fc.property(text, fc.nat(60), fc.nat(60), (whole, from, length) => {
      const all = maskOf(...secrets).shown(Buffer.from(whole), true);
      expect(all.length).toBe(whole.length);
      for (const secret of secrets) expect(all.toString()).not.toContain(secret);
      const mask = maskOf(...secrets);
      const before = Math.min(from, mask.marginBytes);
      const end = from + length + mask.marginBytes;
      const part = Buffer.from(whole.slice(from - before, end));
      const shown = mask.shown(part, end >= whole.length).subarray(before, before + length);
      expect(shown.toString()).toBe(all.subarray(from, from + length).toString());
    }),
    { numRuns: 500 },
  );
});

test('shown() throws when the mask was wiped, and shows nothing bare', () => {
  const mask = maskOf('hunter22');
  mask.wipe();
  mask.wipe();
  expect(() => mask.shown(Buffer.from('hunter22'), true)).toThrow(/wiped/);
});

test('openLogMask() masks what opens, wipes what it was handed, and has none of what stays shut', async () => {
  const bench = dispatchBench();
  await bench.addMachine('m1');
  await bench.addConnection('c1', { kind: 'machine', id: 'm1' });
  const run = (await bench.changes.get(await bench.submit())).value;
  const plain = offerOf(run, { ref: 'job', kind: 'probe' });
  const sealed: Offer = {
    ...plain,
    connection: { id: 'c1', version: 1, targetKind: 'machine', targetId: 'm1' },
    credential: {
      v: 1,
      suite: 'p256',
      kid: 'k'.repeat(43),
      enc: 'e'.repeat(87),
      ct: 'c'.repeat(64),
    },
  };
  const password = Buffer.from('hunter22');
  const opener = { ...noOpener, open: () => Promise.resolve({ user: 'ann', password }) };
  const mask = await openLogMask(sealed, opener, silentLogger);
  expect(mask?.shown(Buffer.from('a hunter22'), true).toString()).toBe('a ********');
  expect(password.every(byte => byte === 0)).toBe(true);
  await expect(openLogMask(sealed, noOpener, silentLogger)).resolves.toBeUndefined();
  const none = await openLogMask(plain, noOpener, silentLogger);
  expect(none?.shown(Buffer.from('a hunter22'), true).toString()).toBe('a hunter22');
});
