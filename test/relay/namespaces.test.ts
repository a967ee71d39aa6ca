import { describe, expect, test } from 'vitest';
import type { NamespaceDescription } from '../../src/protocol/resources.ts';
import { hostNameOf, NamespaceTable } from '../../src/relay/namespaces.ts';

function namespace(name: string, hosts: string[], entities: string[] = []): NamespaceDescription {
  return {
    name,
    hosts,
    authorizationRules: [],
    hybridConnections: entities.map(entity => ({
      name: entity,
      requiresClientAuthorization: true,
      userMetadata: '',
      authorizationRules: [],
    })),
  };
}

describe('NamespaceTable.find()', () => {
  const table = new NamespaceTable(
    [
      namespace('red', ['red.example.com', 'r.example.com']),
      namespace('any', []),
      namespace('blue', ['blue.example.com']),
    ],
    0,
  );

  test.each([
    ['red.example.com', 'red'],
    ['r.example.com', 'red'],
    ['blue.example.com', 'blue'],
    ['localhost', 'any'],
    ['', 'any'],
  ])('answers to %j with %s', (host, name) => {
    expect(table.find(host)?.name).toBe(name);
  });

  test('knows nothing of other hosts where no namespace takes all', () => {
    const only = new NamespaceTable([namespace('red', ['red.example.com'])], 0);
    expect(only.find('blue.example.com')).toBeUndefined();
  });
});

describe('Namespace.find()', () => {
  const [subject] = new NamespaceTable([namespace('n', [], ['a', 'a/b', 'Team/Orders', 'x/y'])], 0)
    .all;

  test.each([
    ['a', 'a'],
    ['a/c', 'a'],
    ['a/b', 'a/b'],
    ['a/b/c/d', 'a/b'],
    ['a/bc', 'a'],
    ['team/orders/7', 'Team/Orders'],
    ['x', undefined],
    ['x/y', 'x/y'],
    ['ab', undefined],
    ['', undefined],
  ])('finds for %j the longest name on a segment boundary: %s', (path, name) => {
    const segments = path === '' ? [] : path.split('/');
    expect(subject?.find(segments)?.name).toBe(name);
  });

  test('finds what was created, under its own name', () => {
    const [fresh] = new NamespaceTable([namespace('n', [])], 0).all;
    expect(fresh?.find(['new', 'one'])).toBeUndefined();
    const created = fresh?.create('new/one', 1);
    expect(fresh?.find(['new', 'one', 'below'])).toBe(created);
    expect(created?.requiresClientAuthorization).toBe(true);
    expect(fresh?.size).toBe(1);
  });
});

test.each([
  ['Relay.Example.COM', 'relay.example.com'],
  ['relay.example.com:443', 'relay.example.com'],
  ['[::1]', '[::1]'],
  ['[::1]:8080', '[::1]'],
  ['127.0.0.1:80', '127.0.0.1'],
])('hostNameOf(%j) is %j', (host, name) => {
  expect(hostNameOf(host)).toBe(name);
});
