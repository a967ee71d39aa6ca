import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatApiPath, parseApiPath } from '../../src/management/api-path.ts';

const names = fc.stringMatching(/^[A-Za-z0-9]([A-Za-z0-9._/-]{0,30}[A-Za-z0-9])?$/);
const ruleNames = fc.stringMatching(/^[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?$/);

test('parseApiPath() reads what formatApiPath() wrote, whatever the names', () => {
  fc.assert(
    fc.property(names, ruleNames, (hybridConnection, rule) => {
      const level = { namespace: 'tests', hybridConnection };
      expect(parseApiPath(formatApiPath(level))).toEqual({
        kind: 'hybridConnection',
        level: { namespace: 'tests' },
        name: hybridConnection,
      });
      expect(parseApiPath(formatApiPath(level, rule))).toEqual({ kind: 'rule', level, rule });
      expect(parseApiPath(`${formatApiPath(level, rule)}/listKeys`)).toEqual({
        kind: 'listKeys',
        level,
        rule,
      });
    }),
  );
});

test('parseApiPath() never throws', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), text => {
      expect(() => parseApiPath(text)).not.toThrow();
      expect(() => parseApiPath(`/api/namespaces/${text}`)).not.toThrow();
    }),
  );
});

test.each([
  ['/api'],
  ['/apis/namespaces'],
  ['/api/namespaces/'],
  ['/api/namespaces/a/'],
  ['/api/namespaces//hybridConnections'],
  ['/api/namespaces/a/wcfRelays'],
  ['/api/namespaces/a/hybridConnections/b/c'],
  ['/api/namespaces/a/hybridConnections/%FF'],
  ['/api/namespaces/a/authorizationRules/b/listKeys/c'],
  ['/api/namespaces/a/authorizationRules/b/other'],
])('parseApiPath() knows nothing of %s', path => {
  expect(parseApiPath(path)).toBeUndefined();
});

test.each([
  ['/api/namespaces', { kind: 'namespaces' }],
  ['/API/NAMESPACES/a/HybridConnections', { kind: 'hybridConnections', level: { namespace: 'a' } }],
  [
    '/api/namespaces/a/hybridConnections/b~c',
    { kind: 'hybridConnection', level: { namespace: 'a' }, name: 'b/c' },
  ],
  [
    '/api/namespaces/a/authorizationRules/r/regeneratekeys',
    { kind: 'regenerateKeys', level: { namespace: 'a' }, rule: 'r' },
  ],
])('parseApiPath() reads %s', (path, target) => {
  expect(parseApiPath(path)).toEqual(target);
});
