import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseAccountName, systemNames } from '../../src/machine/account-name.ts';
import { isOlderVersion } from '../../src/machine/agent-version.ts';

test.each([
  ['ann', '', 'ann', undefined],
  ['CONTOSO\\ann', '', 'ann', 'CONTOSO'],
  ['ann@contoso.example', '', 'ann', 'contoso.example'],
  ['desk1\\ann', '', 'ann', undefined],
  ['DESK1.lan\\ann', '', 'ann', undefined],
  ['local\\ann', '', 'ann', undefined],
  ['.\\ann', '', 'ann', undefined],
  ['ann', 'CONTOSO', 'ann', 'CONTOSO'],
  ['ann', 'desk1', 'ann', undefined],
  ['.\\ann', 'CONTOSO', 'ann', undefined],
])('parseAccountName() reads %s (domain "%s")', (text, ownDomain, user, domain) => {
  expect(parseAccountName(text, ownDomain, 'desk1.lan')).toEqual({ user, domain });
});

test.each(['', '-c', 'a b', 'a:b', '../a', 'a\n', 'A\\b@c', 'A\\', '@c', 'a@-x', 'a/b', 'a\u0000'])(
  'parseAccountName() takes %j for no name of an account',
  text => {
    expect(parseAccountName(text, '', 'desk1')).toBeUndefined();
  },
);

test('systemNames() have nothing that a command line would misread', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (text, domain) => {
      const name = parseAccountName(text, domain, 'desk1');
      for (const one of name === undefined ? [] : systemNames(name)) {
        expect(one).toMatch(/^[^-\s:/][^\s:/]*$/u);
        if (name?.domain !== undefined) expect(one).not.toBe(name.user);
      }
    }),
  );
});

test.each([
  ['1.2.0', '1.10.0', true],
  ['1.2.0', '1.2', false],
  ['1.2', '1.2.1', true],
  ['2.0.0-beta.1', '2.0.0', false],
  ['1.0.0', undefined, false],
])('isOlderVersion(%s, %s) is %s', (version, wanted, isOlder) => {
  expect(isOlderVersion(version, wanted)).toBe(isOlder);
});
