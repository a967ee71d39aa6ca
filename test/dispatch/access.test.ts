import { describe, expect, test } from 'vitest';
import { may, mayIn, requireMay, withGrant, type Action } from '../../src/dispatch/access.ts';
import type { Grant, Role } from '../../src/dispatch/records.ts';

const ACTIONS: readonly Action[] = ['view', 'use', 'edit', 'share', 'delete'];

function opened(role: Role | undefined, grant?: Grant, owner = 'user:owner'): string {
  const caller = { name: 'user:ann', isAdmin: false, role };
  const record = { owner, access: grant === undefined ? {} : { 'user:ann': grant } };
  return ACTIONS.filter(action => may(caller, action, record)).join(' ');
}

describe('may()', () => {
  test.each<[Role | undefined, Grant | undefined, string]>([
    [undefined, undefined, ''],
    [undefined, 'co-owner', ''],
    ['reader', undefined, 'view'],
    ['reader', 'co-owner', 'view'],
    ['user', undefined, 'view'],
    ['user', 'use', 'view use'],
    ['user', 'user', 'view use'],
    ['user', 'edit', 'view use edit'],
    ['maker', 'co-owner', 'view use edit share delete'],
    ['owner', undefined, 'view use edit share delete'],
  ])('opens to the role %s with the grant %s: %s', (role, grant, expected) => {
    expect(opened(role, grant)).toBe(expected);
  });

  test('opens all of a record to its owner, while it has a role that acts', () => {
    expect(opened('user', undefined, 'user:ann')).toBe('view use edit share delete');
    expect(opened('reader', undefined, 'user:ann')).toBe('view');
    expect(opened(undefined, undefined, 'user:ann')).toBe('');
  });

  test('requireMay() says whom to ask', () => {
    const caller = { name: 'user:ann', isAdmin: false, role: 'user' } as const;
    expect(() => requireMay(caller, 'use', { owner: 'user:bob', access: {} })).toThrow(
      /ask user:bob for access/,
    );
  });
});

function rights(role: Role): string {
  const caller = { name: 'user:ann', isAdmin: false, role };
  return (['view', 'run', 'make', 'administer'] as const)
    .filter(action => mayIn(caller, action))
    .join(' ');
}

test('mayIn() gives each role what those below it have', () => {
  expect(rights('reader')).toBe('view');
  expect(rights('user')).toBe('view run');
  expect(rights('maker')).toBe('view run make');
  expect(rights('owner')).toBe('view run make administer');
});

test('withGrant() changes one grant and takes it away', () => {
  const one = withGrant({ 'user:a': 'use' }, 'user:b', 'edit');
  expect(one).toEqual({ 'user:a': 'use', 'user:b': 'edit' });
  expect(withGrant(one, 'user:a', undefined)).toEqual({ 'user:b': 'edit' });
});
