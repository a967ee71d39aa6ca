import { generateKeyPairSync } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { pointOf, signBytes } from '../../src/crypto/es256.ts';
import { readAudit } from '../../src/dispatch/audit.ts';
import { Connections } from '../../src/dispatch/connections.ts';
import { DispatchKeys } from '../../src/dispatch/dispatch-key.ts';
import { GroupRotation } from '../../src/dispatch/group-rotation.ts';
import { KeyRotationChore } from '../../src/dispatch/key-rotation-chore.ts';
import { MachineCommands } from '../../src/dispatch/machine-commands.ts';
import { keyChangeText, MachineKeys } from '../../src/dispatch/machine-keys.ts';
import { CONNECTION, MACHINE } from '../../src/dispatch/records.ts';
import { Resealing } from '../../src/dispatch/resealing.ts';
import { ANN, dispatchBench, type DispatchBench } from '../support/dispatch.ts';
import { FakeSender, NOBODY } from '../support/fake-machines.ts';
import { KeyHolder, seal } from '../support/key-holder.ts';
import { MachineKeys as OwnKeys } from '../support/machine-keys.ts';

const SECRET = '{"u":"bot","p":"canary"}';
const TARGET = { targetKind: 'machine', targetId: 'm1' } as const;
const BOB = { name: 'user:bob', isAdmin: false, role: 'user' } as const;

let bench: DispatchBench;
let sender: FakeSender;
let holder: KeyHolder;
let own: OwnKeys;
let keys: MachineKeys;
let connections: Connections;
let chore: KeyRotationChore;
let first: Awaited<ReturnType<KeyHolder['newKey']>>;

beforeEach(async () => {
  bench = dispatchBench();
  own = new OwnKeys();
  const { repository, changes, clock } = bench;
  sender = new FakeSender();
  holder = new KeyHolder();
  sender.answer = request => holder.answer(request);
  const dispatchKeys = new DispatchKeys(bench.store, clock);
  const commands = new MachineCommands({ repository, sender, keys: dispatchKeys, clock });
  const resealing = new Resealing(repository, commands, clock);
  keys = new MachineKeys(repository, resealing, clock);
  connections = new Connections(repository, changes, clock);
  const groups = new GroupRotation({ repository, commands, resealing, clock });
  chore = new KeyRotationChore({ repository, groups, machines: keys, clock });
  first = await holder.newKey();
  await bench.addMachine('m1', {
    identityKey: pointOf(own.identity),
    encryptionKey: { kid: first.kid, suite: 'p256', point: first.text },
  });
});

function change(point: string, by = own, what = 'encryption-key' as const, machineId = 'm1') {
  const text = keyChangeText(what, { environment: 'dev', machineId, point });
  return { point, signature: signBytes(by.identity, Buffer.from(text)) };
}

async function connect(id: string, mayReseal = true): Promise<void> {
  const to = { kid: first.kid, point: first.text };
  const envelope = await seal(SECRET, to, TARGET, id, 1);
  const target = { kind: 'machine', id: 'm1' };
  await connections.create(ANN, { id, name: id, target, envelope, mayReseal });
}

async function machine() {
  const found = await bench.repository.get(MACHINE, 'm1');
  if (found === undefined) throw new Error('the machine is gone');
  return found.value;
}

describe('a machine’s new encryption key', () => {
  test('takes the place of the old one when everything is sealed to it', async () => {
    await connect('c1');
    const second = await holder.newKey();
    await keys.putEncryptionKey('m1', change(second.text));
    await keys.putEncryptionKey('m1', change(second.text));
    expect((await machine()).encryptionKey.kid).toBe(first.kid);
    await chore.sweep();
    const { encryptionKey, secondaryKey, formerKeys } = await machine();
    expect(encryptionKey).toEqual({ kid: second.kid, suite: 'p256', point: second.text });
    expect(secondaryKey).toBeUndefined();
    expect(formerKeys?.map(({ publicKey }) => publicKey.kid)).toEqual([first.kid]);
    const connection = await bench.repository.get(CONNECTION, 'c1');
    const { envelope, credentialVersion } = connection?.value ?? {};
    if (envelope === undefined) throw new Error('it has no envelope');
    expect(credentialVersion).toBe(2);
    await expect(holder.open(envelope, TARGET, 'c1', 2)).resolves.toBe(SECRET);
    await expect(bench.repository.count('key-rotations')).resolves.toBe(0);
    bench.clock.advance(45 * 24 * 3_600_000);
    await chore.sweep();
    expect((await machine()).formerKeys).toEqual([]);
    const entries = await readAudit(bench.repository, { after: 0, limit: 100 });
    expect(entries.map(({ action }) => action)).toEqual([
      'connection.create',
      'machine.key.secondary',
      'connection.reseal',
      'machine.key.promote',
      'machine.key.drop',
    ]);
  });

  test('waits for a machine that is away, and for owners who do not allow it', async () => {
    await connect('c1', false);
    const second = await holder.newKey();
    await keys.putEncryptionKey('m1', change(second.text));
    sender.answer = () => NOBODY;
    await chore.sweep();
    sender.answer = request => holder.answer(request);
    await chore.sweep();
    expect((await machine()).encryptionKey.kid).toBe(first.kid);
    await expect(keys.promote(ANN, 'm1', {})).rejects.toMatchObject({ code: 'KeyInUse' });
    await expect(keys.promote(BOB, 'm1', {})).rejects.toMatchObject({ code: 'AccessDenied' });
    await keys.promote(ANN, 'm1', { suspendRest: true });
    expect((await machine()).encryptionKey.kid).toBe(second.kid);
    const connection = await bench.repository.get(CONNECTION, 'c1');
    expect(connection?.value.suspended).toMatchObject({ code: 'KeyIdUnknown' });
    await expect(keys.promote(ANN, 'm1', {})).rejects.toMatchObject({ code: 'NotFound' });
  });

  test('is vouched for by the identity key, for this machine and this use', async () => {
    const { text } = await holder.newKey();
    const refused = (body: object) => expect(keys.putEncryptionKey('m1', body)).rejects;
    await refused(change(text, new OwnKeys())).toMatchObject({ code: 'TokenInvalid' });
    await refused(change(text, own, undefined, 'm2')).toMatchObject({ code: 'TokenInvalid' });
    const other = await holder.newKey();
    await refused({ ...change(text), point: other.text }).toMatchObject({ code: 'TokenInvalid' });
    await refused(change(pointOf(own.identity))).toMatchObject({ errors: [{ path: 'point' }] });
    await refused(change('B'.repeat(87))).toMatchObject({ errors: [{ path: 'point' }] });
    await refused({ ...change(text), more: 1 }).toMatchObject({ code: 'RequestMalformed' });
    await expect(keys.putEncryptionKey('m9', change(text))).rejects.toMatchObject({
      code: 'MachineNotFound',
    });
    expect((await machine()).secondaryKey).toBeUndefined();
  });

  test('may be replaced by another until something is sealed to it; a former one stays former', async () => {
    const [second, third] = [await holder.newKey(), await holder.newKey()];
    await keys.putEncryptionKey('m1', change(second.text));
    await keys.putEncryptionKey('m1', change(third.text));
    expect((await machine()).secondaryKey?.publicKey.kid).toBe(third.kid);
    await chore.sweep();
    expect((await machine()).encryptionKey.kid).toBe(third.kid);
    await expect(keys.putEncryptionKey('m1', change(first.text))).rejects.toMatchObject({
      code: 'VersionConflict',
    });
  });
});

function identityChange(next: OwnKeys, by = own) {
  const point = pointOf(next.identity);
  const text = keyChangeText('identity-key', { environment: 'dev', machineId: 'm1', point });
  const [signature, proof] = [by, next].map(one => signBytes(one.identity, Buffer.from(text)));
  return { point, signature, proof };
}

describe('a machine’s new identity key', () => {
  test('is signed by the old one and by itself, and may be said again', async () => {
    const next = new OwnKeys();
    await keys.putIdentityKey('m1', identityChange(next));
    await keys.putIdentityKey('m1', identityChange(next));
    expect((await machine()).identityKey).toBe(pointOf(next.identity));
    const other = new OwnKeys();
    // The old one has no word any more.
    await expect(keys.putIdentityKey('m1', identityChange(other))).rejects.toMatchObject({
      code: 'TokenInvalid',
    });
    await keys.putIdentityKey('m1', identityChange(other, next));
  });

  test('is none that its machine does not have, and not the one that things are sealed to', async () => {
    const next = new OwnKeys();
    const good = identityChange(next);
    await expect(
      keys.putIdentityKey('m1', { ...good, proof: good.signature }),
    ).rejects.toMatchObject({ code: 'TokenInvalid' });
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const point = pointOf(privateKey);
    await keys.putEncryptionKey('m1', change(point));
    const text = keyChangeText('identity-key', { environment: 'dev', machineId: 'm1', point });
    const [signature, proof] = [own.identity, privateKey].map(key =>
      signBytes(key, Buffer.from(text)),
    );
    await expect(keys.putIdentityKey('m1', { point, signature, proof })).rejects.toMatchObject({
      errors: [{ path: 'point' }],
    });
  });
});
