import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Caller } from '../../src/dispatch/access.ts';
import { readAudit } from '../../src/dispatch/audit.ts';
import {
  GroupMembership,
  joinProofText,
  type GroupActor,
} from '../../src/dispatch/group-membership.ts';
import { Groups } from '../../src/dispatch/groups.ts';
import { MACHINE } from '../../src/dispatch/records.ts';
import { pointOf, signBytes } from '../../src/crypto/es256.ts';
import { bindingOf, sealedOf, type Envelope } from '../../src/crypto/envelope.ts';
import { open } from '../../src/crypto/hpke.ts';
import { newScalar, openingKeyOf, type OpeningKey } from '../../src/crypto/key-pair.ts';
import { ANN, dispatchBench, type DispatchBench } from '../support/dispatch.ts';
import { MachineKeys } from '../support/machine-keys.ts';

const PERSON: GroupActor = { type: 'person', caller: ANN };
const BOB: Caller = { name: 'user:bob', isAdmin: false, role: 'user' };

let bench: DispatchBench;
let groups: Groups;
let membership: GroupMembership;
let groupKey: OpeningKey;
let groupId: string;
const keys = new MachineKeys();

beforeEach(async () => {
  bench = dispatchBench();
  groups = new Groups(bench.repository, bench.changes, bench.clock);
  membership = new GroupMembership(bench.repository, bench.clock);
  groupKey = await openingKeyOf(await newScalar());
  groupId = (await groups.create(ANN, { name: 'desks' })).id;
  await bench.addMachine('m1', { identityKey: pointOf(keys.identity) });
});

/** A package as a machine makes it; what is wrapped is none of the server's business. */
function keyPackage(generation: number, change: object = {}, key = groupKey) {
  return {
    point: Buffer.from(key.point).toString('base64url'),
    package: {
      v: 1,
      groupId,
      kid: key.kid,
      generation,
      suite: 'p256',
      kdf: { name: 'scrypt', N: 2 ** 17, r: 8, p: 1, salt: random(16) },
      nonce: random(12),
      wrapped: random(48),
      ...change,
    },
  };
}

function random(bytes: number): string {
  return randomBytes(bytes).toString('base64url');
}

async function opened(sealed: Envelope, machineId: string, challengeId: string): Promise<string> {
  const holder = {
    tenant: 'default',
    environment: 'dev',
    kind: 'group',
    id: groupId,
    kid: groupKey.kid,
  } as const;
  const purpose = { type: 'challenge', machineId, challengeId } as const;
  const parts = sealedOf(sealed);
  if (parts === undefined) throw new Error('not an envelope');
  const secret = await open(groupKey, bindingOf(holder, purpose), parts);
  if (secret === undefined) throw new Error('it does not open');
  return Buffer.from(secret).toString('base64url');
}

/** What a machine that has unwrapped the key answers. */
async function proof(machineId: string, actor = PERSON, by = keys) {
  const { challengeId, sealed } = await membership.challenge(actor, groupId, machineId);
  const answer = await opened(sealed, machineId, challengeId);
  const text = Buffer.from(joinProofText(groupId, challengeId, answer));
  return { challengeId, answer, signature: signBytes(by.identity, text) };
}

describe('the key package of a group', () => {
  test('is put by the first and fetched by those after', async () => {
    await expect(groups.get(ANN, groupId)).resolves.toMatchObject({ state: 'NeedsKey' });
    await expect(membership.keyPackage(PERSON, groupId)).rejects.toMatchObject({
      code: 'NotFound',
    });
    const body = keyPackage(1);
    await membership.putKeyPackage(PERSON, groupId, 0, body);
    await expect(membership.keyPackage(PERSON, groupId)).resolves.toEqual(body.package);
    await expect(groups.get(ANN, groupId)).resolves.toMatchObject({ state: 'Active' });
    const entries = await readAudit(bench.repository, { after: 0, limit: 10 });
    expect(entries.map(({ action }) => action)).toEqual([
      'group.create',
      'group.key.create',
      'group.key-package.read',
    ]);
  });

  test('has one first, however many come at once', async () => {
    const others = await openingKeyOf(await newScalar());
    const outcomes = await Promise.allSettled([
      membership.putKeyPackage(PERSON, groupId, 0, keyPackage(1)),
      membership.putKeyPackage(PERSON, groupId, 0, keyPackage(1, {}, others)),
    ]);
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect(outcomes.find(({ status }) => status === 'rejected')).toMatchObject({
      reason: { code: 'PreconditionFailed' },
    });
  });

  test('changes its password one generation on, never its key', async () => {
    await membership.putKeyPackage(PERSON, groupId, 0, keyPackage(1));
    await membership.putKeyPackage(PERSON, groupId, 1, keyPackage(2));
    const refusal = (generation: number | undefined, body: object, actor = PERSON) =>
      expect(membership.putKeyPackage(actor, groupId, generation, body)).rejects;
    await refusal(1, keyPackage(2)).toMatchObject({ code: 'PreconditionFailed' });
    await refusal(undefined, keyPackage(3)).toMatchObject({ code: 'PreconditionRequired' });
    await refusal(2, keyPackage(4)).toMatchObject({ errors: [{ path: 'package.generation' }] });
    const others = await openingKeyOf(await newScalar());
    await refusal(2, keyPackage(3, {}, others)).toMatchObject({ errors: [{ path: 'point' }] });
    await refusal(2, keyPackage(3, { kid: others.kid })).toMatchObject({
      errors: [{ path: 'package.kid' }],
    });
    const weak = { name: 'scrypt', N: 2, r: 8, p: 1, salt: random(16) };
    await refusal(2, keyPackage(3, { kdf: weak })).toMatchObject({
      errors: [{ path: 'package.kdf.N' }],
    });
    await refusal(2, keyPackage(3), { type: 'person', caller: BOB }).toMatchObject({
      code: 'AccessDenied',
    });
  });

  test('is told so often in an hour, since it is all that guessing takes', async () => {
    await membership.putKeyPackage(PERSON, groupId, 0, keyPackage(1));
    for (let count = 0; count < 60; count += 1) await membership.keyPackage(PERSON, groupId);
    await expect(membership.keyPackage(PERSON, groupId)).rejects.toMatchObject({
      code: 'QuotaReached',
    });
    bench.clock.advance(3_600_000);
    await expect(membership.keyPackage(PERSON, groupId)).resolves.toMatchObject({ generation: 1 });
  });
});

describe('joining', () => {
  beforeEach(async () => {
    await membership.putKeyPackage(PERSON, groupId, 0, keyPackage(1));
  });

  test('takes the opened challenge, once', async () => {
    const body = await proof('m1');
    await membership.join(PERSON, groupId, 'm1', body);
    await expect(groups.get(ANN, groupId)).resolves.toMatchObject({ members: ['m1'] });
    const machine = await bench.repository.get(MACHINE, 'm1');
    expect(machine?.value.group).toEqual({ id: groupId, provedKid: groupKey.kid });
    await expect(membership.join(PERSON, groupId, 'm1', body)).rejects.toMatchObject({
      code: 'TokenInvalid',
    });
  });

  test('the server does not keep what it sealed', async () => {
    const { challengeId, answer } = await proof('m1');
    const stored = await bench.store.get('dev', { kind: 'challenge', id: challengeId });
    expect(stored?.text).toContain(challengeId);
    expect(stored?.text).not.toContain(answer);
  });

  test('is refused for a wrong answer, a foreign signature, another machine, and too late', async () => {
    await bench.addMachine('m2', { identityKey: pointOf(keys.identity) });
    const refusal = (body: object, machineId = 'm1') =>
      expect(membership.join(PERSON, groupId, machineId, body)).rejects;
    const body = await proof('m1');
    await refusal({ ...body, answer: random(32) }).toMatchObject({ code: 'TokenInvalid' });
    const foreign = await proof('m1', PERSON, new MachineKeys());
    await refusal(foreign).toMatchObject({ code: 'TokenInvalid' });
    await refusal(body, 'm2').toMatchObject({ code: 'TokenInvalid' });
    await refusal({ ...body, challengeId: 'none' }).toMatchObject({ code: 'TokenInvalid' });
    bench.clock.advance(5 * 60_000);
    await refusal(body).toMatchObject({ code: 'TokenInvalid' });
    await expect(groups.get(ANN, groupId)).resolves.toMatchObject({ members: [] });
  });

  test('is for who may change the group, and for machines whose code says so', async () => {
    const owner = { ...BOB, name: 'user:carl' };
    const machine: GroupActor = { type: 'machine', machineId: 'm3', owner };
    await bench.addMachine('m3', { owner: 'user:carl', identityKey: pointOf(keys.identity) });
    await expect(membership.keyPackage(machine, groupId)).rejects.toMatchObject({
      code: 'AccessDenied',
    });
    await expect(membership.challenge(PERSON, groupId, 'm3')).rejects.toMatchObject({
      code: 'AccessDenied',
    });
    await bench.addMachine('m4', { mayJoin: groupId, identityKey: pointOf(keys.identity) });
    const letIn: GroupActor = { type: 'machine', machineId: 'm4', owner: undefined };
    await membership.join(letIn, groupId, 'm4', await proof('m4', letIn));
    await expect(membership.challenge(letIn, groupId, 'm1')).rejects.toMatchObject({
      code: 'AccessDenied',
    });
    await expect(groups.get(ANN, groupId)).resolves.toMatchObject({ members: ['m4'] });
  });

  test('is for one group at a time, and for 50 machines', async () => {
    const other = (await groups.create(ANN, { name: 'other' })).id;
    await bench.addMachine('m5', { group: { id: other } });
    await expect(membership.challenge(PERSON, groupId, 'm5')).rejects.toMatchObject({
      code: 'VersionConflict',
    });
    const ids = Array.from({ length: 50 }, (_id, number) => `x${number}`);
    await bench.repository.change(() => bench.membersOf(groupId, ids));
    await expect(membership.join(PERSON, groupId, 'm1', await proof('m1'))).rejects.toMatchObject({
      code: 'QuotaReached',
    });
  });

  test('leave() ends it, and the key stays for who comes back', async () => {
    await membership.join(PERSON, groupId, 'm1', await proof('m1'));
    await expect(
      membership.leave({ type: 'person', caller: BOB }, groupId, 'm1'),
    ).rejects.toMatchObject({ code: 'AccessDenied' });
    await membership.leave({ type: 'machine', machineId: 'm1', owner: undefined }, groupId, 'm1');
    await expect(groups.get(ANN, groupId)).resolves.toMatchObject({ members: [], state: 'Active' });
    await membership.join(PERSON, groupId, 'm1', await proof('m1'));
    await expect(groups.get(ANN, groupId)).resolves.toMatchObject({ members: ['m1'] });
  });
});

describe('groups as people set them', () => {
  test('create() with one key makes one', async () => {
    const first = await groups.create(ANN, { name: 'a' }, 'k');
    await expect(groups.create(ANN, { name: 'a' }, 'k')).resolves.toMatchObject({ id: first.id });
    await expect(groups.create(BOB, { name: 'a' })).rejects.toMatchObject({ code: 'AccessDenied' });
  });

  test('patch() and setAccess() keep to what was read and who may', async () => {
    await groups.patch(ANN, groupId, 1, { lookAhead: 5 });
    await expect(groups.patch(ANN, groupId, 1, {})).rejects.toMatchObject({
      code: 'PreconditionFailed',
    });
    await groups.setAccess(ANN, groupId, 'user:bob', 'edit');
    await expect(groups.patch(BOB, groupId, 3, { maintenance: true })).resolves.toMatchObject({
      value: { isInMaintenance: true, lookAhead: 5 },
    });
  });

  test('delete() lets members go and fails what waits', async () => {
    await membership.putKeyPackage(PERSON, groupId, 0, keyPackage(1));
    await membership.join(PERSON, groupId, 'm1', await proof('m1'));
    await bench.addConnection('c1', { kind: 'group', id: groupId });
    const run = await bench.submit();
    const { group } = await groups.get(ANN, groupId);
    await groups.delete(ANN, groupId, group.version);
    await expect(bench.changes.get(run)).resolves.toMatchObject({
      value: { state: 'Failed', fault: { code: 'MachineGroupNotFound' } },
    });
    const machine = await bench.repository.get(MACHINE, 'm1');
    expect(machine?.value.group).toBeUndefined();
    await expect(bench.repository.count(`members:${groupId}`)).resolves.toBe(0);
  });
});
