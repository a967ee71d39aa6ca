import { describe, expect, test } from 'vitest';
import type { NamespaceDescription } from '../../src/protocol/resources.ts';
import { hostNameOf, NamespaceTable, type Namespace } from '../../src/relay/namespaces.ts';

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

describe('Namespace at run time', () => {
  const AT_RUN_TIME = { origin: 'api', createdAtMs: 1, updatedAtMs: 2 } as const;
  const RULE = { name: 'Rule', rights: ['Send'], primaryKey: 'p' } as const;

  function served(name: string, userMetadata = ''): Parameters<Namespace['put']>[0] {
    const settings = { requiresClientAuthorization: false, userMetadata, authorizationRules: [] };
    return { name, ...settings, ...AT_RUN_TIME };
  }

  function tests(): { readonly table: NamespaceTable; readonly subject: Namespace } {
    const file = { ...namespace('n', [], ['fixed']), authorizationRules: [RULE] };
    const table = new NamespaceTable([file], 0);
    const subject = table.named('N');
    if (subject === undefined) throw new Error('There is no n');
    return { table, subject };
  }

  test('put() adds a hybrid connection, tells of it, and then changes the same one', () => {
    const { table, subject } = tests();
    const added: string[] = [];
    table.onAdded(({ name }) => added.push(name));
    expect(subject.put(served('Team/Orders'))).toBe(true);
    const found = subject.find(['team', 'orders', '7']);
    expect(found).toMatchObject({ origin: 'api', requiresClientAuthorization: false });
    expect(subject.put(served('team/orders', 'new'))).toBe(true);
    expect(subject.named('Team/Orders')).toBe(found);
    expect(found?.userMetadata).toBe('new');
    expect(added).toEqual(['Team/Orders']);
  });

  test('put() takes over what came into being on first use', () => {
    const { subject } = tests();
    const created = subject.create('hello', 0);
    expect(created.origin).toBe('auto-created');
    expect(subject.put(served('hello'))).toBe(true);
    expect(subject.named('hello')).toBe(created);
    expect(created.origin).toBe('api');
  });

  test('put() and remove() leave alone what the config file defines', () => {
    const { subject } = tests();
    expect(subject.put(served('FIXED', 'x'))).toBe(false);
    expect(subject.remove('fixed')).toBe(false);
    expect(subject.named('fixed')).toMatchObject({ userMetadata: '', isDeleted: false });
  });

  test('remove() forgets a hybrid connection for good; another of its name is another one', () => {
    const { subject } = tests();
    subject.put(served('orders'));
    const found = subject.named('orders');
    expect(subject.remove('Orders')).toBe(true);
    expect(subject.remove('orders')).toBe(false);
    expect(subject.named('orders')).toBeUndefined();
    subject.put(served('orders'));
    expect(found?.isDeleted).toBe(true);
    expect(subject.named('orders')?.isDeleted).toBe(false);
  });

  test('setRules() adds to the rules of the config file, and gives back those of a name it has', () => {
    const { subject } = tests();
    const other = { ...RULE, name: 'other' };
    expect(subject.setRules([{ ...RULE, name: 'RULE', primaryKey: 'mine' }, other])).toEqual([
      { ...RULE, name: 'RULE', primaryKey: 'mine' },
    ]);
    expect(subject.rules).toEqual([RULE, other]);
    subject.setRules([]);
    expect(subject.rules).toEqual([RULE]);
  });
});
