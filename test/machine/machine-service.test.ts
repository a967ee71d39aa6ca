import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Later } from '../../src/client/later.ts';
import { fingerprintOf } from '../../src/crypto/fingerprint.ts';
import { askService } from '../../src/machine/service-socket.ts';
import { StateFolder } from '../../src/machine/state-folder.ts';
import { systemClock } from '../../src/base/clock.ts';
import { machineBench, member, recordingWay } from '../support/machine-bench.ts';
import { until, within } from '../support/within.ts';

async function codeOf(bench: Awaited<ReturnType<typeof machineBench>>): Promise<string> {
  return member(await bench.ask('POST', '/activation-codes', {}), 'code');
}

describe('a run', () => {
  test('registered by a code, a machine runs with credentials that only it can open', async () => {
    await using bench = await machineBench();
    const code = await codeOf(bench);
    const registered = await bench.register('desk', { entrance: { type: 'code', code } });
    const { record, fingerprint } = registered;
    const shown = await bench.ask('GET', `/machines/${record.machineId}/public-key`);
    expect(member(shown, 'fingerprint')).toBe(fingerprint);
    expect(fingerprintOf(record.encryptionKid)).toBe(fingerprint);
    const machine = await bench.start('desk');
    await machine.online();
    const connection = await bench.connectTo({ kind: 'machine', id: record.machineId });
    const run = await bench.run(connection);
    expect(member(run, 'state')).toBe('Succeeded');
    expect(machine.door.opened).toEqual(['ann:secret of ann']);
    expect(machine.log.lines.join('\n')).not.toContain('secret of ann');
  });

  test('works by long-polling as well', async () => {
    await using bench = await machineBench();
    const { record } = await bench.register('desk');
    const machine = await bench.start('desk', { transport: 'poll' });
    await machine.online();
    const connection = await bench.connectTo({ kind: 'machine', id: record.machineId });
    expect(member(await bench.run(connection), 'state')).toBe('Succeeded');
    expect(machine.service.report().channel.transport).toBe('poll');
  });

  test("another connection's envelope stays shut, and no sign-in is tried", async () => {
    await using bench = await machineBench();
    const { record } = await bench.register('desk');
    const machine = await bench.start('desk');
    await machine.online();
    const target = { kind: 'machine', id: record.machineId } as const;
    const swapped = await bench.connectTo(target, () => bench.seal(target, { id: 'another' }));
    const run = await bench.run(swapped);
    expect(run).toMatchObject({ state: 'Failed', fault: { code: 'CredentialContextMismatch' } });
    const later = await bench.connectTo(target, id => bench.seal(target, { id, version: 2 }));
    expect(await bench.run(later)).toMatchObject({ fault: { code: 'CredentialContextMismatch' } });
    expect(machine.door.opened).toEqual([]);
    expect(machine.log.lines.filter(line => line.includes('"event":"security"'))).toHaveLength(2);
  });

  test('an offer of somebody who only has the right to send is refused', async () => {
    await using bench = await machineBench();
    const { record } = await bench.register('desk');
    const machine = await bench.start('desk');
    await machine.online();
    const { relay } = bench;
    const sent = await fetch(`${relay.httpUrl}/${record.relayPath}/commands/x`, {
      method: 'POST',
      headers: { ServiceBusAuthorization: relay.token(record.relayPath) },
      body: JSON.stringify({
        v: 1,
        type: 'cancel',
        runId: 'r',
        mode: 'kill',
        graceSeconds: 0,
        by: 'x',
      }),
    });
    expect(sent.status).toBe(401);
    expect(machine.door.cancels).toEqual([]);
    const line = machine.log.lines.find(one => one.includes('"event":"security"'));
    expect(line).toContain('no signature');
  });
});

test('of all bytes that leave the machine none is of a private key', async () => {
  await using bench = await machineBench();
  await using way = await recordingWay(bench.relay.port);
  const { record } = await bench.register('desk', {}, way.origin);
  const machine = await bench.start('desk');
  await machine.online();
  const group = member(await bench.ask('POST', '/groups', { name: 'team' }), 'id');
  const { generatedPassword = '' } = await bench.join('desk', group);
  await askService(bench.folderOf('desk'), 'reload', systemClock);
  const connection = await bench.connectTo({ kind: 'group', id: group });
  expect(member(await bench.run(connection), 'state')).toBe('Succeeded');
  const sent = way.sent();
  const folder = bench.folderOf('desk');
  const keyFiles = folder
    .names()
    .filter(name => name.endsWith('.key'))
    .toSorted((one, other) => (one < other ? -1 : 1));
  expect(keyFiles.map(name => name.split('.')[0])).toEqual(['encryption', 'group', 'identity']);
  const secrets = keyFiles.map(name => {
    const written: unknown = JSON.parse(folder.read(name)?.toString() ?? '');
    const secret = Buffer.from(member(written, 'secret'), 'base64url');
    // Of PKCS#8 the 32 bytes of the scalar, whatever is around them.
    return secret.length === 32 ? secret : secret.subarray(36, 68);
  });
  for (const secret of [...secrets, Buffer.from(generatedPassword)]) {
    expect(secret.length).toBeGreaterThan(25);
    expect(formsOf(secret).filter(form => sent.includes(form))).toEqual([]);
  }
  // The same search finds what does leave: the public half, and the machine's name for itself.
  const { keys } = await bench.open('desk');
  expect(sent.includes(keys.identity.point)).toBe(true);
  expect(formsOf(Buffer.from(record.machineId)).some(form => sent.includes(form))).toBe(true);
});

function formsOf(secret: Buffer): readonly (Buffer | string)[] {
  const texts = [0, 1, 2].flatMap(skip => {
    const part = secret.subarray(skip, secret.length - ((secret.length - skip) % 3));
    return [part.toString('base64'), part.toString('base64url')];
  });
  return [secret, secret.toString('hex'), Buffer.from(secret.toReversed()), ...texts];
}

describe('groups', () => {
  test('a machine that joins later opens a connection made before, and no other password lets it in', async () => {
    await using bench = await machineBench();
    await bench.register('first');
    const group = member(await bench.ask('POST', '/groups', { name: 'team' }), 'id');
    const first = await bench.join('first', group);
    expect(first).toMatchObject({
      isFirst: true,
      generatedPassword: expect.stringMatching(/^[a-z2-7]{26}$/),
    });
    const connection = await bench.connectTo({ kind: 'group', id: group });
    await bench.register('second');
    await expect(bench.join('second', group, 'not the password at all')).rejects.toThrow(
      /group password is wrong/,
    );
    expect(
      bench
        .folderOf('second')
        .names()
        .some(name => name.startsWith('group.')),
    ).toBe(false);
    const second = await bench.join('second', group, first.generatedPassword);
    expect(second).toMatchObject({ isFirst: false, fingerprint: first.fingerprint });
    const machine = await bench.start('second');
    await machine.online();
    expect(member(await bench.run(connection), 'state')).toBe('Succeeded');
    expect(machine.door.opened).toEqual(['ann:secret of ann']);
  }, 30_000);

  test('a running service sees a group that was joined meanwhile', async () => {
    await using bench = await machineBench();
    await bench.register('desk');
    const machine = await bench.start('desk');
    await machine.online();
    const group = member(await bench.ask('POST', '/groups', { name: 'team' }), 'id');
    await bench.join('desk', group);
    const told = await askService(bench.folderOf('desk'), 'reload', systemClock);
    expect(told).toMatchObject({ group: { id: group, hasKey: true } });
  });
});

describe('the service', () => {
  test('ends when the machine is deleted, and says that it is not registered', async () => {
    await using bench = await machineBench();
    const { record } = await bench.register('desk');
    const machine = await bench.start('desk');
    await machine.online();
    const path = `/environments/default/machines/${record.machineId}`;
    const { etag } = await bench.person.call({ method: 'GET', path, token: bench.apiToken });
    await bench.person.call({ method: 'DELETE', path, token: bench.apiToken, ifMatch: etag });
    await askService(bench.folderOf('desk'), 'reload', systemClock);
    const why = await within('the end of the service', machine.outcome, 20_000);
    expect(why).toMatchObject({ fault: 'NotRegistered', code: 'MachineNotFound' });
    expect(machine.door.isClosed).toBe(true);
  }, 30_000);

  test('a copy of it on another computer is told, and so is it', async () => {
    await using bench = await machineBench();
    await bench.register('desk');
    const machine = await bench.start('desk');
    await machine.online();
    const copied = join(bench.place.path, 'copy');
    cpSync(join(bench.place.path, 'desk'), copied, {
      recursive: true,
      filter: source => !source.endsWith('.sock'),
    });
    const copy = await bench.start('copy', {}, StateFolder.open(copied));
    const problemOf = (one: typeof machine): string => one.service.report().hello.problem ?? '';
    const folders = [bench.folderOf('desk'), StateFolder.open(copied)];
    await until(
      'both are told',
      async () => {
        for (const folder of folders) await askService(folder, 'reload', systemClock);
        return [machine, copy].every(one =>
          problemOf(one).includes('Two computers use one registration'),
        );
      },
      20_000,
    );
    expect(machine.log.lines.join()).toContain(
      'another computer uses the registration of this one',
    );
  }, 30_000);

  test('drain() takes nothing new, goes on saying hello, and ends with the last run', async () => {
    await using bench = await machineBench();
    const { record } = await bench.register('desk');
    const machine = await bench.start('desk');
    await machine.online();
    const finish = new Later<void>();
    machine.door.until = finish.promise;
    const connection = await bench.connectTo({ kind: 'machine', id: record.machineId });
    const run = await bench.startRun(connection);
    await until('the run has begun', () => machine.door.opened.length === 1);
    const drained = machine.service.drain(20_000);
    expect(machine.door.isDraining).toBe(true);
    const told = await askService(bench.folderOf('desk'), 'status', systemClock);
    expect(told).toMatchObject({ isDraining: true, channel: { state: 'online' } });
    finish.resolve();
    await within('drained', drained);
    expect(await within('the end', machine.outcome, 10_000)).toBeUndefined();
    expect(member(await bench.endOf(run), 'state')).toBe('Succeeded');
  });

  test('a second process with the same folder is refused', async () => {
    await using bench = await machineBench();
    await bench.register('desk');
    const machine = await bench.start('desk');
    await machine.online();
    const second = await bench.start('desk');
    expect(await second.outcome).toMatchObject({ fault: 'Busy' });
  });
});
