import { expect, test } from 'vitest';
import { ApiTokens, newTokenText } from '../../src/dispatch/api-tokens.ts';
import { Environments } from '../../src/dispatch/environments.ts';
import { openMemoryDispatchStore } from '../../src/store/memory-dispatch-store.ts';
import { FakeClock } from '../support/fake-clock.ts';

const ADMIN = { name: 'token:bootstrap', isAdmin: true };

function setUp() {
  const clock = new FakeClock(1_700_000_000_000);
  const store = openMemoryDispatchStore();
  const bootstrap = newTokenText();
  const tokens = new ApiTokens(store, clock, bootstrap);
  return { clock, store, bootstrap, tokens, environments: new Environments(store, clock) };
}

test('authenticate() knows the bootstrap token and no other', async () => {
  const { tokens, bootstrap } = setUp();
  await expect(tokens.authenticate(bootstrap)).resolves.toEqual(ADMIN);
  for (const text of ['', 'hwt_', newTokenText(), `${bootstrap}x`]) {
    await expect(tokens.authenticate(text)).rejects.toMatchObject({ code: 'TokenInvalid' });
  }
});

test('create() makes a token that acts as its user until it is deleted, disabled or expired', async () => {
  const { tokens, environments, clock } = setUp();
  await environments.createUser(ADMIN, { id: 'ann' });
  const { text, token } = await tokens.create(ADMIN, {
    name: 'laptop',
    user: 'user:ann',
    expiresInSeconds: 3600,
  });
  await expect(tokens.authenticate(text)).resolves.toEqual({ name: 'user:ann', isAdmin: false });
  await environments.setUserDisabled(ADMIN, 'ann', true);
  await expect(tokens.authenticate(text)).rejects.toMatchObject({ code: 'TokenInvalid' });
  await environments.setUserDisabled(ADMIN, 'ann', false);
  clock.advance(3600_000);
  await expect(tokens.authenticate(text)).rejects.toMatchObject({ code: 'TokenInvalid' });
  const self = await tokens.create(ADMIN, { name: 'ci' });
  await expect(tokens.authenticate(self.text)).resolves.toMatchObject({ isAdmin: false });
  await tokens.delete(ADMIN, self.token.id);
  await expect(tokens.authenticate(self.text)).rejects.toMatchObject({ code: 'TokenInvalid' });
  expect(token.principal).toBe('user:ann');
});

test('find() knows nobody any more whose token has expired', async () => {
  const { tokens, clock } = setUp();
  const { token } = await tokens.create(ADMIN, { name: 'ci', expiresInSeconds: 3600 });
  await expect(tokens.find(token.principal)).resolves.toMatchObject({ name: token.principal });
  clock.advance(3600_000);
  await expect(tokens.find(token.principal)).resolves.toBeUndefined();
});

test('the text of a token is in no record', async () => {
  const { tokens, store } = setUp();
  const { text, token } = await tokens.create(ADMIN, { name: 'ci', isAdmin: true });
  const document = await store.get('~', { kind: 'token', id: token.id });
  expect(document?.text).toContain(token.sha256);
  expect(document?.text).not.toContain(text.slice(4));
});

test('users make and see their own tokens only, and make no administrators', async () => {
  const { tokens, environments } = setUp();
  await environments.createUser(ADMIN, { id: 'ann' });
  await environments.createUser(ADMIN, { id: 'bob' });
  const ann = { name: 'user:ann', isAdmin: false };
  const own = await tokens.create(ann, { name: 'own', user: 'user:ann', isAdmin: true });
  await expect(tokens.authenticate(own.text)).resolves.toEqual(ann);
  await expect(tokens.create(ann, { name: 'x', user: 'user:bob' })).rejects.toMatchObject({
    code: 'AccessDenied',
  });
  await expect(tokens.create(ann, { name: 'x' })).rejects.toMatchObject({ code: 'AccessDenied' });
  const others = await tokens.create(ADMIN, { name: 'bobs', user: 'user:bob' });
  const page = await tokens.list(ann, {});
  expect(page.items.map(({ value }) => value.name)).toEqual(['own']);
  await expect(tokens.delete(ann, others.token.id)).rejects.toMatchObject({ code: 'NotFound' });
});

test('an environment is not there for whoever has no role in it', async () => {
  const { environments } = setUp();
  await environments.create(ADMIN, { id: 'prod' });
  const ann = { name: 'user:ann', isAdmin: false };
  await expect(environments.enter(ann, 'prod')).rejects.toMatchObject({ code: 'NotFound' });
  expect((await environments.list(ann, {})).items).toEqual([]);
  await environments.setRole(ADMIN, 'prod', 'user:ann', 'maker');
  await expect(environments.enter(ann, 'prod')).resolves.toMatchObject({
    caller: { role: 'maker' },
  });
  await expect(environments.setRole(ann, 'prod', 'user:ann', 'owner')).rejects.toMatchObject({
    code: 'AccessDenied',
  });
  await environments.setRole(ADMIN, 'prod', 'user:ann', undefined);
  await expect(environments.enter(ann, 'prod')).rejects.toMatchObject({ code: 'NotFound' });
});

test('create() of an environment tells all faults at once', async () => {
  const { environments } = setUp();
  await expect(environments.create(ADMIN, { id: 'No Good', more: 1 })).rejects.toMatchObject({
    code: 'RequestMalformed',
    errors: [{ path: 'id' }, { path: 'more' }],
  });
});
