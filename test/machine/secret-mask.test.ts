import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SecretMask } from '../../src/machine/secret-mask.ts';

function masked(secrets: readonly string[], chunks: readonly string[]): string {
  const mask = new SecretMask(secrets.map(secret => Buffer.from(secret)));
  const shown = [...chunks.map(chunk => mask.push(Buffer.from(chunk))), mask.end()];
  return Buffer.concat(shown).toString('utf8');
}

test.each([
  ['a secret', ['hunter22'], ['say hunter22 twice: hunter22hunter22'], 'say *** twice: ***'],
  ['one cut by chunks', ['hunter22'], ['a hun', 'ter', '22 b'], 'a *** b'],
  ['one that is the start of another', ['abcd', 'abcdef'], ['x abcd', 'ef abcd'], 'x *** ***'],
  ['two that overlap', ['abcd', 'cdef'], ['x abc', 'def y'], 'x *** y'],
  ['one that overlaps itself', ['aaaa'], ['aaaaa', 'aa b'], '*** b'],
  ['a start that does not go on', ['hunter22'], ['hunter', '23'], 'hunter23'],
  ['a start at the end', ['hunter22'], ['hunter2'], 'hunter2'],
  ['the form in JSON', ['a "b" c'], ['{"p":"a \\"b\\" c"}'], '{"p":"***"}'],
  ['the form in addresses', ['p@ss/w'], ['?p=p%40ss%2Fw&'], '?p=***&'],
  ['one that is too short', ['abc'], ['abc'], 'abc'],
  ['none', [], ['abc'], 'abc'],
])('push() and end(): %s', (_name, secrets, chunks, shown) => {
  expect(masked(secrets, chunks)).toBe(shown);
});

test('push() shows the same however it is cut, and no secret', () => {
  const secrets = ['abab', 'babc', 'ccccc', 'abcabc'];
  const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 60 });
  fc.assert(
    fc.property(text, fc.array(fc.nat(60), { maxLength: 8 }), (whole, cuts) => {
      const places = [0, ...cuts.toSorted((one, other) => one - other), whole.length];
      const chunks = places.slice(1).map((end, index) => whole.slice(places[index], end));
      const shown = masked(secrets, chunks);
      expect(shown).toBe(masked(secrets, [whole]));
      for (const secret of secrets) expect(shown).not.toContain(secret);
    }),
    { numRuns: 500 },
  );
});

test('push() holds no more back than the longest secret has', () => {
  const mask = new SecretMask([Buffer.from('x'.repeat(50))]);
  let shown = 0;
  for (let count = 0; count < 1_000; count += 1) {
    shown += mask.push(Buffer.from('-'.repeat(99))).length;
    expect((count + 1) * 99 - shown).toBeLessThan(50);
  }
});
