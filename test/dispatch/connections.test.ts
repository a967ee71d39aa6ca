import { beforeEach, describe, expect, test } from 'vitest';
import type { Caller } from '../../src/dispatch/access.ts';
import { readAudit } from '../../src/dispatch/audit.ts';
import { Connections, shownConnection } from '../../src/dispatch/connections.ts';
import { refusePlaintext } from '../../src/dispatch/plaintext.ts';
import { CONNECTION } from '../../src/dispatch/records.ts';
import { Draft } from '../../src/dispatch/repository.ts';
import { ANN, dispatchBench, type DispatchBench } from '../support/dispatch.ts';

const BOB: Caller = { name: 'user:bob', isAdmin: false, role: 'user' };
const KID = 'K'.repeat(43);

let bench: DispatchBench;
let connections: Connections;
beforeEach(async () => {
  bench = dispatchBench();
  connections = new Connections(bench.repository, bench.changes, bench.clock);
  await bench.addMachine('m1', { encryptionKey: { kid: KID, suite: 'p256', point: '' } });
});

function envelope(change: object = {}) {
  return { v: 1, suite: 'p256', kid: KID, enc: 'e'.repeat(87), ct: 'c'.repeat(64), ...change };
}

function body(change: object = {}) {
  const target = { kind: 'machine', id: 'm1' };
  return { id: 'c1', name: 'bot', target, envelope: envelope(), ...change };
}

function refusal(change: object, caller = ANN) {
  return expect(connections.create(caller, body(change))).rejects;
}

describe('create()', () => {
  test('keeps what was sealed and shows everything else', async () => {
    const { connection } = await connections.create(ANN, body({ accountName: 'CONTOSO\\bot' }));
    expect(connection.value).toMatchObject({ credentialVersion: 1, runOwner: 'user:ann' });
    const shown = shownConnection(connection.value);
    expect(shown).toMatchObject({ kid: KID, accountName: 'CONTOSO\\bot' });
    expect(JSON.stringify(shown)).not.toContain('c'.repeat(64));
    const [entry] = await readAudit(bench.repository, { after: 0, limit: 1 });
    expect(entry).toMatchObject({ action: 'connection.create', object: 'c1' });
    expect(JSON.stringify(entry)).not.toContain('c'.repeat(64));
  });

  test('refuses credentials in the clear before anything else, and does not say them again', async () => {
    const hostile = { password: 'canary-7f3a', more: 'nothing else fits' };
    const failure = await connections.create(BOB, hostile).catch((error: unknown) => error);
    expect(failure).toMatchObject({
      code: 'PlaintextCredentialRefused',
      errors: [{ path: 'password' }],
    });
    expect(JSON.stringify(failure) + String(failure)).not.toContain('canary');
  });

  test('takes the key that the target has, and each kind what belongs to it', async () => {
    await refusal({ envelope: envelope({ kid: 'X'.repeat(43) }) }).toMatchObject({
      code: 'KeyIdUnknown',
    });
    await refusal({ envelope: undefined }).toMatchObject({ errors: [{ path: 'envelope' }] });
    await refusal({ kind: 'none' }).toMatchObject({ errors: [{ path: 'envelope' }] });
    await refusal({ kind: 'vaultRef', envelope: undefined }).toMatchObject({
      errors: [{ path: 'vaultRef' }],
    });
    await refusal({ target: { kind: 'machine', id: 'm9' } }).toMatchObject({
      code: 'MachineNotFound',
    });
    await refusal({ target: { kind: 'group', id: 'g9' } }).toMatchObject({
      code: 'MachineGroupNotFound',
    });
    await refusal({}, BOB).toMatchObject({ code: 'AccessDenied' });
  });

  test('is for whoever may use the machine', async () => {
    await bench.addMachine('m2', {
      access: { 'user:bob': 'user' },
      encryptionKey: { kid: KID, suite: 'p256', point: '' },
    });
    const made = connections.create(BOB, body({ target: { kind: 'machine', id: 'm2' } }));
    await expect(made).resolves.toMatchObject({ connection: { value: { owner: 'user:bob' } } });
  });

  test('makes one of several with the same key', async () => {
    await connections.create(ANN, body(), 'k1');
    await expect(connections.create(ANN, body(), 'k1')).resolves.toMatchObject({
      isRepeated: true,
    });
    await expect(connections.create(ANN, body(), 'k2')).rejects.toMatchObject({
      code: 'VersionConflict',
    });
  });
});

describe('patch()', () => {
  test('writes new credentials over the old ones, and lifts a suspension', async () => {
    await connections.create(ANN, body());
    await bench.repository.change(async () => {
      const before = await bench.repository.get(CONNECTION, 'c1');
      const draft = new Draft();
      const suspended = { code: 'AccountLockedOut', atMs: 1 };
      if (before !== undefined) draft.replace(CONNECTION, before, { ...before.value, suspended });
      return { draft, answer: undefined };
    });
    const next = { envelope: envelope({ ct: 'd'.repeat(64) }), credentialVersion: 2 };
    const { value } = await connections.patch(ANN, 'c1', 2, next);
    expect(value).toMatchObject({ credentialVersion: 2, suspended: undefined });
    const stored = await bench.store.get('dev', { kind: 'connection', id: 'c1' });
    expect(stored?.text).not.toContain('c'.repeat(64));
  });

  test('refuses another version, another target without credentials, and a stale ETag', async () => {
    await connections.create(ANN, body());
    const patchRefusal = (change: object, ifMatch: number | undefined = 1) =>
      expect(connections.patch(ANN, 'c1', ifMatch, change)).rejects;
    await patchRefusal({ envelope: envelope() }).toMatchObject({
      errors: [{ path: 'credentialVersion' }],
    });
    await patchRefusal({ envelope: envelope(), credentialVersion: 3 }).toMatchObject({
      errors: [{ path: 'credentialVersion' }],
    });
    await bench.addMachine('m2');
    await patchRefusal({ target: { kind: 'machine', id: 'm2' } }).toMatchObject({
      errors: [{ path: 'envelope' }],
    });
    await patchRefusal({ name: 'x' }, 7).toMatchObject({ code: 'PreconditionFailed' });
    await patchRefusal({ name: 'x', login: { pwd: 'x' } }).toMatchObject({
      code: 'PlaintextCredentialRefused',
    });
  });

  test('is for editors, sharing is not', async () => {
    await connections.create(ANN, body());
    await connections.setAccess(ANN, 'c1', 'user:bob', 'edit');
    await expect(connections.patch(BOB, 'c1', 2, { name: 'new' })).resolves.toMatchObject({
      value: { name: 'new' },
    });
    await expect(connections.setAccess(BOB, 'c1', 'user:carl', 'use')).rejects.toMatchObject({
      code: 'AccessDenied',
    });
  });
});

test('delete() takes the ciphertext along and fails what waits', async () => {
  await connections.create(ANN, body());
  const waiting = await bench.submit();
  const assigned = await bench.submit();
  await bench.changes.advance(assigned, { type: 'picked', machineId: 'm1' });
  await connections.delete(ANN, 'c1', 1);
  await expect(bench.changes.get(waiting)).resolves.toMatchObject({
    value: { state: 'Failed', fault: { code: 'ConnectionDeleted' } },
  });
  await expect(bench.state(assigned)).resolves.toBe('Assigned');
  await expect(bench.repository.get(CONNECTION, 'c1')).resolves.toBeUndefined();
  await expect(bench.submit()).rejects.toMatchObject({ code: 'ConnectionNotFound' });
});

test('list() can be of one target', async () => {
  await connections.create(ANN, body());
  const page = await connections.list(BOB, {}, { kind: 'machine', id: 'm1' });
  expect(page.items.map(({ id }) => id)).toEqual(['c1']);
  await expect(connections.list(BOB, {}, { kind: 'group', id: 'm1' })).resolves.toMatchObject({
    items: [],
  });
});

test.each([
  { password: 'x' },
  { a: { b: [{ Pass_Word: 'x' }] } },
  { envelope: { v: 1, secret: 'x' } },
  { credential: { user: 'a', p: 'x' } },
  { 'client-secret': 'x' },
  { myPasswordHint: '' },
])('refusePlaintext() refuses %j', hostile => {
  expect(() => refusePlaintext(hostile)).toThrow(/must be sealed/);
});

test('refusePlaintext() lets envelopes and everything else through', () => {
  expect(() => refusePlaintext(body({ credential: envelope() }))).not.toThrow();
  expect(() => refusePlaintext('password')).not.toThrow();
});
