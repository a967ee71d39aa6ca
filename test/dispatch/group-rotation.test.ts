import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { pointOf, signBytes } from '../../src/crypto/es256.ts';
import { bindingOf, sealedOf } from '../../src/crypto/envelope.ts';
import { open } from '../../src/crypto/hpke.ts';
import { readAudit } from '../../src/dispatch/audit.ts';
import { Connections } from '../../src/dispatch/connections.ts';
import { DispatchKeys } from '../../src/dispatch/dispatch-key.ts';
import { GroupMembership, joinProofText } from '../../src/dispatch/group-membership.ts';
import { GroupRotation } from '../../src/dispatch/group-rotation.ts';
import { Groups } from '../../src/dispatch/groups.ts';
import { KeyRotationChore } from '../../src/dispatch/key-rotation-chore.ts';
import { MachineCommands } from '../../src/dispatch/machine-commands.ts';
import { MachineKeys } from '../../src/dispatch/machine-keys.ts';
import { Placement } from '../../src/dispatch/placement.ts';
import { CONNECTION, GROUP, MACHINE } from '../../src/dispatch/records.ts';
import { Resealing } from '../../src/dispatch/resealing.ts';
import { ANN, dispatchBench, type DispatchBench } from '../support/dispatch.ts';
import { FakeSender, NOBODY } from '../support/fake-machines.ts';
import { KeyHolder, seal } from '../support/key-holder.ts';
import { MachineKeys as OwnKeys } from '../support/machine-keys.ts';

const PERSON = { type: 'person', caller: ANN } as const;
const BOB = { name: 'user:bob', isAdmin: false, role: 'user' } as const;
const SECRET = '{"u":"bot","p":"canary"}';
const DAY_MS = 24 * 3_600_000;

let bench: DispatchBench;
let sender: FakeSender;
let groups: Groups;
let membership: GroupMembership;
let connections: Connections;
let rotation: GroupRotation;
let chore: KeyRotationChore;
let groupId: string;
let holders: Map<string, KeyHolder>;
let primary: Awaited<ReturnType<KeyHolder['newKey']>>;
const own = new OwnKeys();

beforeEach(async () => {
  bench = dispatchBench();
  const { repository, changes, clock } = bench;
  sender = new FakeSender();
  holders = new Map(['m1', 'm2'].map(id => [id, new KeyHolder()]));
  sender.answer = request => holders.get(request.machineId)?.answer(request) ?? NOBODY;
  const keys = new DispatchKeys(bench.store, clock);
  const commands = new MachineCommands({ repository, sender, keys, clock });
  const resealing = new Resealing(repository, commands, clock);
  groups = new Groups(repository, changes, clock);
  membership = new GroupMembership(repository, clock);
  connections = new Connections(repository, changes, clock);
  rotation = new GroupRotation({ repository, commands, resealing, clock });
  const machines = new MachineKeys(repository, resealing, clock);
  chore = new KeyRotationChore({ repository, groups: rotation, machines, clock });
  groupId = (await groups.create(ANN, { name: 'desks' })).id;
  primary = await holderOf('m1').newKey();
  holderOf('m2').keys.set(primary.kid, primary);
  await membership.putKeyPackage(PERSON, groupId, 0, keyPackage(1, primary));
  for (const id of ['m1', 'm2']) {
    await bench.addMachine(id, { identityKey: pointOf(own.identity) });
    await bench.setPresence(id);
    await prove(id, primary);
  }
});

function holderOf(id: string): KeyHolder {
  const holder = holders.get(id);
  if (holder === undefined) throw new Error(`there is no machine ${id}`);
  return holder;
}

function keyPackage(generation: number, key: { readonly kid: string; readonly text: string }) {
  return {
    point: key.text,
    package: {
      v: 1,
      groupId,
      kid: key.kid,
      generation,
      suite: 'p256',
      kdf: { name: 'scrypt', N: 2 ** 17, r: 8, p: 1, salt: random(16) },
      nonce: random(12),
      wrapped: random(48),
    },
  };
}

function random(bytes: number): string {
  return randomBytes(bytes).toString('base64url');
}

/** What a machine that has unwrapped a key of the group does. */
async function prove(id: string, key: typeof primary, which?: 'secondary'): Promise<void> {
  const { challengeId, sealed } = await membership.challenge(PERSON, groupId, id, which);
  const holder = { tenant: 'default', environment: 'dev', kind: 'group', id: groupId } as const;
  const purpose = { type: 'challenge', machineId: id, challengeId } as const;
  const parts = sealedOf(sealed);
  const binding = bindingOf({ ...holder, kid: key.kid }, purpose);
  const secret = parts === undefined ? undefined : await open(key, binding, parts);
  const answer = Buffer.from(secret ?? []).toString('base64url');
  const text = Buffer.from(joinProofText(groupId, challengeId, answer));
  const signature = signBytes(own.identity, text);
  await membership.join(PERSON, groupId, id, { challengeId, answer, signature });
}

async function connect(id: string, change: object = {}, key = primary): Promise<void> {
  const holder = { targetKind: 'group', targetId: groupId } as const;
  const envelope = await seal(SECRET, { kid: key.kid, point: key.text }, holder, id, 1);
  const target = { kind: 'group', id: groupId };
  await connections.create(ANN, { id, name: id, target, envelope, mayReseal: true, ...change });
}

async function connection(id: string) {
  const record = await bench.repository.get(CONNECTION, id);
  if (record === undefined) throw new Error(`there is no connection ${id}`);
  return record.value;
}

/** Started, with the next key made by a member. */
async function withSecondary(): Promise<typeof primary> {
  await rotation.start(ANN, groupId);
  const secondary = await holderOf('m1').newKey();
  await rotation.putSecondary(PERSON, groupId, 1, keyPackage(2, secondary));
  return secondary;
}

async function able(runId: string): Promise<readonly string[]> {
  const { repository, changes, clock } = bench;
  const placement = new Placement({
    repository,
    changes,
    clock,
    random: () => 0.5,
    minAgentVersion: () => Promise.resolve(undefined),
  });
  const { value } = await changes.get(runId);
  const assessed = (await placement.assess(value)) ?? [];
  return assessed
    .filter(({ lack }) => lack === undefined)
    .map(({ candidate }) => candidate.machine.id);
}

describe('a rotation', () => {
  test('goes all the way: made, proved, sealed anew, promoted, dropped', async () => {
    await connect('c1');
    await connect('c2');
    const secondary = await withSecondary();
    await expect(membership.keyPackage(PERSON, groupId, 'secondary')).resolves.toMatchObject({
      kid: secondary.kid,
      generation: 2,
    });
    await prove('m1', secondary, 'secondary');
    await expect(rotation.view(ANN, groupId)).resolves.toMatchObject({
      secondary: { kid: secondary.kid },
      members: [
        { machineId: 'm1', hasSecondary: true },
        { machineId: 'm2', hasSecondary: false },
      ],
      connections: { left: 2, ofOwners: [] },
    });
    await chore.sweep();
    const { envelope, credentialVersion } = await connection('c1');
    expect(envelope?.kid).toBe(secondary.kid);
    expect(credentialVersion).toBe(2);
    if (envelope === undefined) throw new Error('it has no envelope');
    const target = { targetKind: 'group', targetId: groupId } as const;
    await expect(holderOf('m1').open(envelope, target, 'c1', 2)).resolves.toBe(SECRET);
    await rotation.promote(ANN, groupId, {});
    const { value } = (await bench.repository.get(GROUP, groupId)) ?? {};
    expect(value?.key?.publicKey.kid).toBe(secondary.kid);
    expect(value?.rotation).toBeUndefined();
    await expect(rotation.view(ANN, groupId)).resolves.toBeUndefined();
    // The next change of the password begins where the new package stands.
    await membership.putKeyPackage(PERSON, groupId, 2, keyPackage(3, secondary));
    bench.clock.advance(45 * DAY_MS - 1);
    await chore.sweep();
    await expect(formerKids()).resolves.toEqual([primary.kid]);
    bench.clock.advance(1);
    await chore.sweep();
    await expect(formerKids()).resolves.toEqual([]);
    const entries = await readAudit(bench.repository, { after: 0, limit: 100 });
    const actions = entries.map(({ action }) => action);
    expect(actions).toEqual(expect.arrayContaining(['connection.reseal', 'group.rotation.start']));
    expect(JSON.stringify(entries)).not.toContain(envelope.ct);
    expect(sender.requests.every(({ body }) => !body.includes('canary'))).toBe(true);
  });

  test('is known to the members that are there', async () => {
    const names = () => sender.requests.map(({ body }) => /"name":"([a-z-]+)"/.exec(body)?.[1]);
    await rotation.start(ANN, groupId);
    expect(names()).toEqual(['rotate-group-key', 'rotate-group-key']);
    const secondary = await holderOf('m1').newKey();
    await rotation.putSecondary(PERSON, groupId, 1, keyPackage(2, secondary));
    expect(names().slice(2)).toEqual(['group-key-changed', 'group-key-changed']);
    expect(sender.requests.at(-1)?.body).toContain(secondary.kid);
  });

  test('leaves members without the new key out until they prove it', async () => {
    await connect('c1');
    const secondary = await withSecondary();
    await prove('m1', secondary, 'secondary');
    const run = await bench.submit({ connectionId: 'c1' });
    await expect(able(run)).resolves.toEqual(['m1', 'm2']);
    await rotation.reseal(ANN, groupId);
    // Sealed to the next key: only who has it can open it, before and after it is the present one.
    await expect(able(run)).resolves.toEqual(['m1']);
    await rotation.promote(ANN, groupId, {});
    await expect(able(run)).resolves.toEqual(['m1']);
    await prove('m2', secondary);
    await expect(able(run)).resolves.toEqual(['m1', 'm2']);
    const m2 = await bench.repository.get(MACHINE, 'm2');
    expect(m2?.value.group).toEqual({
      id: groupId,
      provedKid: secondary.kid,
      otherKids: [primary.kid],
    });
  });

  test('does not end while a connection needs the old key, unless it is suspended for it', async () => {
    await connect('c1', { mayReseal: false });
    await connect('c2');
    const secondary = await withSecondary();
    await prove('m1', secondary, 'secondary');
    await expect(rotation.reseal(ANN, groupId)).resolves.toEqual({ resealed: 1, refused: [] });
    await expect(rotation.view(ANN, groupId)).resolves.toMatchObject({
      connections: { left: 1, ofOwners: ['c1'] },
    });
    await expect(rotation.promote(ANN, groupId, {})).rejects.toMatchObject({ code: 'KeyInUse' });
    await rotation.promote(ANN, groupId, { suspendRest: true });
    expect((await connection('c1')).suspended).toMatchObject({ code: 'KeyIdUnknown' });
    expect((await connection('c2')).suspended).toBeUndefined();
    // Its owner enters the credentials again, for the key that is there now.
    const holder = { targetKind: 'group', targetId: groupId } as const;
    const to = { kid: secondary.kid, point: secondary.text };
    const envelope = await seal(SECRET, to, holder, 'c1', 2);
    await connections.patch(ANN, 'c1', 2, { envelope, credentialVersion: 2 });
    expect((await connection('c1')).suspended).toBeUndefined();
  });

  test('does not end before somebody has proved the new key', async () => {
    await expect(rotation.promote(ANN, groupId, {})).rejects.toMatchObject({
      code: 'VersionConflict',
    });
    await rotation.start(ANN, groupId);
    await expect(rotation.promote(ANN, groupId, {})).rejects.toMatchObject({ code: 'NotFound' });
    const secondary = await holderOf('m1').newKey();
    await rotation.putSecondary(PERSON, groupId, 1, keyPackage(2, secondary));
    await expect(rotation.promote(ANN, groupId, {})).rejects.toMatchObject({
      code: 'MachineRequiresGroupKey',
    });
    await expect(rotation.reseal(ANN, groupId)).rejects.toMatchObject({
      code: 'NoListenerConnected',
    });
  });

  test('never leaves credentials behind that are sealed while it ends', async () => {
    const outcomes = new Set<string>();
    for (let lead = 0; lead < 12; lead += 1) {
      const old = await groupKid();
      const present = holderOf('m1').keys.get(old);
      if (present === undefined) throw new Error('nobody has the key of the group');
      const text = Buffer.from(present.point).toString('base64url');
      const generation = 1 + lead;
      await rotation.start(ANN, groupId);
      const next = await holderOf('m1').newKey();
      await rotation.putSecondary(PERSON, groupId, generation, keyPackage(generation + 1, next));
      await prove('m1', next, 'secondary');
      const id = `late-${lead}`;
      const target = { targetKind: 'group', targetId: groupId } as const;
      const envelope = await seal(SECRET, { kid: old, point: text }, target, id, 1);
      const body = { id, name: id, target: { kind: 'group', id: groupId }, envelope };
      const [made] = await Promise.allSettled([
        afterTurns(30 - 3 * lead, () => connections.create(ANN, body)),
        afterTurns(3 * lead, () => rotation.promote(ANN, groupId, { suspendRest: true })),
      ]);
      outcomes.add(made.status);
      const left = await bench.repository.get(CONNECTION, `late-${lead}`);
      const isHarmless = left === undefined || left.value.suspended !== undefined;
      const isPromoted = (await groupKid()) !== old;
      expect(isHarmless || !isPromoted, `lead ${lead}`).toBe(true);
      if (!isPromoted) await rotation.promote(ANN, groupId, { suspendRest: true });
    }
    expect([...outcomes].toSorted()).toEqual(['fulfilled', 'rejected']);
  });

  test('may be given up until something is sealed to the new key', async () => {
    await connect('c1');
    await withSecondary();
    await rotation.cancel(ANN, groupId);
    const secondary = await withSecondary();
    await prove('m1', secondary, 'secondary');
    await rotation.reseal(ANN, groupId);
    await expect(rotation.cancel(ANN, groupId)).rejects.toMatchObject({ code: 'KeyInUse' });
  });

  test('is a co-owner’s to start and end, a member’s to make', async () => {
    for (const act of [
      () => rotation.start(BOB, groupId),
      () => rotation.cancel(BOB, groupId),
      () => rotation.reseal(BOB, groupId),
      () => rotation.promote(BOB, groupId, {}),
    ]) {
      await expect(act()).rejects.toMatchObject({ code: 'AccessDenied' });
    }
    await rotation.start(ANN, groupId);
    await expect(rotation.start(ANN, groupId)).rejects.toMatchObject({ code: 'VersionConflict' });
    await bench.addMachine('m9');
    const body = keyPackage(2, await holderOf('m1').newKey());
    const stranger = { type: 'machine', machineId: 'm9', owner: ANN } as const;
    const put = (generation: number | undefined, given: object, actor = PERSON) =>
      expect(rotation.putSecondary(actor, groupId, generation, given)).rejects;
    await expect(rotation.putSecondary(stranger, groupId, 1, body)).rejects.toMatchObject({
      code: 'AccessDenied',
    });
    await put(undefined, body).toMatchObject({ code: 'PreconditionRequired' });
    await put(2, body).toMatchObject({ code: 'PreconditionFailed' });
    await put(1, keyPackage(2, primary)).toMatchObject({ errors: [{ path: 'point' }] });
    await put(1, keyPackage(1, await holderOf('m1').newKey())).toMatchObject({
      errors: [{ path: 'package.generation' }],
    });
    const member = { type: 'machine', machineId: 'm1', owner: undefined } as const;
    await rotation.putSecondary(member, groupId, 1, body);
    await put(1, keyPackage(2, await holderOf('m1').newKey())).toMatchObject({
      code: 'PreconditionFailed',
    });
    // The password stays what it is until the rotation is over.
    await expect(
      membership.putKeyPackage(PERSON, groupId, 1, keyPackage(2, primary)),
    ).rejects.toMatchObject({ code: 'VersionConflict' });
  });

  test('is no way into the group', async () => {
    const secondary = await withSecondary();
    await bench.addMachine('m9', { identityKey: pointOf(own.identity) });
    await expect(prove('m9', secondary, 'secondary')).rejects.toMatchObject({
      code: 'VersionConflict',
    });
  });
});

describe('sealing anew', () => {
  test('takes nothing but the next version, sealed to the key that was asked for', async () => {
    const secondary = await withSecondary();
    await prove('m1', secondary, 'secondary');
    for (const [number, tamper] of [
      (item: object) => ({ ...item, version: 7 }),
      (item: object) => ({ ...item, connectionId: 'other' }),
      (item: { envelope: object }) => ({
        ...item,
        envelope: { ...item.envelope, kid: primary.kid },
      }),
    ].entries()) {
      const id = `c${number}`;
      await connect(id);
      holderOf('m1').tamper = tamper;
      await expect(rotation.reseal(ANN, groupId)).resolves.toMatchObject({ resealed: 0 });
      await expect(connection(id)).resolves.toMatchObject({ credentialVersion: 1 });
    }
    holderOf('m1').tamper = () => ({ nothing: 'of the kind' });
    await expect(rotation.reseal(ANN, groupId)).rejects.toMatchObject({
      code: 'DesktopFlowMalformedMachineResponse',
    });
  });

  test('does not write over what its owner has entered meanwhile', async () => {
    await connect('c1');
    const secondary = await withSecondary();
    await prove('m1', secondary, 'secondary');
    const { answer } = sender;
    sender.answer = async request => {
      const holder = { targetKind: 'group', targetId: groupId } as const;
      const to = { kid: primary.kid, point: primary.text };
      const envelope = await seal('new', to, holder, 'c1', 2);
      await connections.patch(ANN, 'c1', 1, { envelope, credentialVersion: 2 });
      return answer(request);
    };
    await expect(rotation.reseal(ANN, groupId)).resolves.toEqual({ resealed: 0, refused: [] });
    await expect(connection('c1')).resolves.toMatchObject({
      credentialVersion: 2,
      envelope: { kid: primary.kid },
    });
    sender.answer = answer;
    await expect(rotation.reseal(ANN, groupId)).resolves.toEqual({ resealed: 1, refused: [] });
  });

  test('says which credentials a machine could not open, and asks another when one is away', async () => {
    await connect('c1');
    const wrong = { targetKind: 'group', targetId: groupId } as const;
    const to = { kid: primary.kid, point: primary.text };
    const envelope = await seal(SECRET, to, wrong, 'somebody else', 1);
    const target = { kind: 'group', id: groupId };
    await connections.create(ANN, { id: 'c2', name: 'c2', target, envelope, mayReseal: true });
    const secondary = await withSecondary();
    holderOf('m2').keys.set(secondary.kid, secondary);
    await prove('m1', secondary, 'secondary');
    await prove('m2', secondary, 'secondary');
    const { answer } = sender;
    sender.answer = request => (request.machineId === 'm1' ? NOBODY : answer(request));
    await expect(rotation.reseal(ANN, groupId)).resolves.toEqual({
      resealed: 1,
      refused: [{ connectionId: 'c2', code: 'CredentialContextMismatch' }],
    });
  });

  test('goes through many connections', async () => {
    for (let count = 0; count < 45; count += 1) await connect(`c${count}`);
    const secondary = await withSecondary();
    await prove('m1', secondary, 'secondary');
    await expect(rotation.reseal(ANN, groupId)).resolves.toEqual({ resealed: 45, refused: [] });
    await expect(bench.repository.count(`sealed:${primary.kid}`)).resolves.toBe(0);
    await expect(bench.repository.count(`sealed:${secondary.kid}`)).resolves.toBe(45);
    await connections.delete(ANN, 'c1', 2);
    await expect(bench.repository.count(`sealed:${secondary.kid}`)).resolves.toBe(44);
  });
});

/** Does something after so many turns of what is ready to go on. */
async function afterTurns<Value>(turns: number, act: () => Promise<Value>): Promise<Value> {
  for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
  return act();
}

async function groupKid(): Promise<string> {
  const group = await bench.repository.get(GROUP, groupId);
  return group?.value.key?.publicKey.kid ?? '';
}

async function formerKids(): Promise<readonly string[]> {
  const group = await bench.repository.get(GROUP, groupId);
  return (group?.value.formerKeys ?? []).map(({ publicKey }) => publicKey.kid);
}
