import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import {
  ControlError,
  type ControlAnswer,
  type ControlCall,
} from '../../src/machine/control-client.ts';
import { rotateEncryptionKey, rotateIdentityKey } from '../../src/machine/key-rotation.ts';
import type { IdentityKey } from '../../src/machine/key-store.ts';
import { MachineAccess } from '../../src/machine/machine-access.ts';
import { readRegistration } from '../../src/machine/registration-record.ts';
import { askService } from '../../src/machine/service-socket.ts';
import { machineBench, member } from '../support/machine-bench.ts';
import { until } from '../support/within.ts';

describe("a group's key", () => {
  test('is replaced: credentials are sealed anew by a member, and the old key is let go of', async () => {
    await using bench = await machineBench();
    await bench.register('one');
    await bench.register('two');
    const group = member(await bench.ask('POST', '/groups', { name: 'team' }), 'id');
    const target = { kind: 'group', id: group } as const;
    const { generatedPassword } = await bench.join('one', group);
    await bench.join('two', group, generatedPassword);
    const one = await bench.start('one');
    await one.online();
    const connection = await bench.connectTo(target, undefined, { mayReseal: true });
    await bench.ask('POST', `/groups/${group}:rotate-key`);
    await until('it is told', () =>
      one.service.report().lastErrors.some(({ why }) => why.includes('rotate-group-key')),
    );
    const made = await bench.rotateGroupKey('one');
    expect(made).toMatchObject({ isFirst: true, generatedPassword: expect.any(String) });
    await expect(bench.rotateGroupKey('two', generatedPassword)).rejects.toThrow(
      /password is wrong/,
    );
    const taken = await bench.rotateGroupKey('two', made.generatedPassword);
    expect(taken).toMatchObject({ isFirst: false, fingerprint: made.fingerprint });
    await askService(bench.folderOf('one'), 'reload', systemClock);
    // What is sealed to the old key opens as before.
    expect(member(await bench.run(connection), 'state')).toBe('Succeeded');
    expect(await bench.ask('POST', `/groups/${group}:reseal`)).toMatchObject({
      resealed: 1,
      refused: [],
    });
    await bench.ask('POST', `/groups/${group}:promote-secondary`, { graceDays: 0 });
    const shown = await bench.ask('GET', `/groups/${group}/public-key`);
    expect(member(shown, 'fingerprint')).toBe(made.fingerprint);
    const kid = member(shown, 'kid');
    await until(
      'its record has the new key',
      () => readRegistration(bench.folderOf('one'))?.group?.kid === kid,
    );
    expect(member(await bench.run(connection), 'state')).toBe('Succeeded');
    expect(one.door.opened).toEqual(['ann:secret of ann', 'ann:secret of ann']);
  }, 60_000);
});

describe("a machine's encryption key", () => {
  test('is replaced when nothing is sealed to the old one any more, which opens until then', async () => {
    await using bench = await machineBench();
    const { record, fingerprint: before } = await bench.register('desk');
    const machine = await bench.start('desk');
    await machine.online();
    const target = { kind: 'machine', id: record.machineId } as const;
    const connection = await bench.connectTo(target);
    const { folder, keyStore, keys, access } = await bench.open('desk');
    const tell = async (): Promise<void> => void (await askService(folder, 'reload', systemClock));
    const { identity } = keys;
    const call = access.call.bind(access);
    const next = await rotateEncryptionKey(
      { folder, keys: keyStore, identity, record, call },
      tell,
    );
    expect(next).not.toBe(before);
    expect(machine.service.held().machineKeys).toHaveLength(2);
    expect(member(await bench.run(connection), 'state')).toBe('Succeeded');
    // The owner does not let it be sealed anew: then somebody has it suspended.
    const { machineId } = record;
    await bench.ask('POST', `/machines/${machineId}:promote-key`, { suspendRest: true });
    const shown = await bench.ask('GET', `/machines/${machineId}/public-key`);
    expect(member(shown, 'fingerprint')).toBe(next);
    await until('the service has seen it', async () => {
      await tell();
      return machine.service.report().fingerprint === next;
    });
    expect(readRegistration(folder)).toMatchObject({
      encryptionKid: member(shown, 'kid'),
      formerEncryptionKids: [record.encryptionKid],
    });
    const fresh = await bench.connectTo(target);
    expect(member(await bench.run(fresh), 'state')).toBe('Succeeded');
  }, 30_000);
});

describe("a machine's identity key", () => {
  test('is replaced under a running service, and again where the answer was lost', async () => {
    await using bench = await machineBench();
    const { record } = await bench.register('desk');
    const machine = await bench.start('desk');
    await machine.online();
    const rotate = async (isLost: boolean): Promise<void> => {
      const { folder, keyStore, keys, record: now, access, client } = await bench.open('desk');
      const call = async (asked: ControlCall): Promise<ControlAnswer> => {
        const answer = await access.call(asked);
        if (isLost) throw new ControlError('Unreachable', 'lost on its way');
        return answer;
      };
      const isKnown = async (identity: IdentityKey): Promise<boolean> => {
        const { environment, machineId } = now;
        await new MachineAccess({
          client,
          clock: systemClock,
          identity,
          environment,
          machineId,
        }).prove();
        return true;
      };
      const tell = async (): Promise<void> =>
        void (await askService(folder, 'reload', systemClock));
      const { identity } = keys;
      await rotateIdentityKey(
        { folder, keys: keyStore, identity, record: now, call, isKnown },
        tell,
      );
    };
    await rotate(false);
    const first = readRegistration(bench.folderOf('desk'))?.identityKid;
    expect(first).not.toBe(record.identityKid);
    await expect(rotate(true)).rejects.toThrow('lost on its way');
    await rotate(false);
    const kept = readRegistration(bench.folderOf('desk'));
    expect(kept?.identityKid).not.toBe(first);
    expect(kept?.nextIdentityKid).toBeUndefined();
    const files = bench
      .folderOf('desk')
      .names()
      .filter(name => name.startsWith('identity.'));
    expect(files).toEqual([`identity.${kept?.identityKid}.key`]);
    const { access } = await bench.open('desk');
    await access.prove();
    const connection = await bench.connectTo({ kind: 'machine', id: record.machineId });
    expect(member(await bench.run(connection), 'state')).toBe('Succeeded');
    expect(machine.service.report().hello.problem).toBeUndefined();
  }, 30_000);
});

test('keys that sign offers are followed from one to the next', async () => {
  await using bench = await machineBench();
  const { record } = await bench.register('desk');
  const machine = await bench.start('desk');
  await machine.online();
  const rotate = { method: 'POST', path: '/dispatch-keys:rotate', token: bench.apiToken } as const;
  await bench.person.call(rotate);
  const pinned = (): number => readRegistration(bench.folderOf('desk'))?.dispatchKeys.length ?? 0;
  await until('the successor is pinned', async () => {
    await askService(bench.folderOf('desk'), 'reload', systemClock);
    return pinned() === 2;
  });
  const connection = await bench.connectTo({ kind: 'machine', id: record.machineId });
  expect(member(await bench.run(connection), 'state')).toBe('Succeeded');
}, 30_000);
