import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { rotateEncryptionKey } from '../../src/machine/key-rotation.ts';
import { askService } from '../../src/machine/service-socket.ts';
import { machineBench, member } from '../support/machine-bench.ts';
import { commandResult } from './run-command.ts';

/** The command line of somebody who may do all there. */
function commandsAt({ relay, apiToken }: Awaited<ReturnType<typeof machineBench>>) {
  const env = { HALFWAY_ENDPOINT: relay.httpUrl, HALFWAY_API_TOKEN: apiToken };
  return (...argv: readonly string[]) => commandResult(argv, { env });
}

describe('halfway group', () => {
  test('rotate-key, reseal and promote-key replace the key of a group', async () => {
    await using bench = await machineBench();
    const command = commandsAt(bench);
    await bench.register('one');
    const id = member(await bench.ask('POST', '/groups', { name: 'pool' }), 'id');
    await bench.join('one', id);
    const one = await bench.start('one');
    await one.online();
    await bench.connectTo({ kind: 'group', id }, undefined, { mayReseal: true });
    await bench.connectTo({ kind: 'group', id });
    expect((await command('group', 'promote-key', 'pool')).err).toContain(
      'no rotation is under way',
    );
    expect((await command('group', 'rotate-key', 'pool')).out).toContain('rotate-group-key');
    const made = await bench.rotateGroupKey('one');
    await askService(bench.folderOf('one'), 'reload', systemClock);
    expect((await command('group', 'reseal', 'pool')).out).toBe(
      '1 connections are sealed to the next key\n',
    );
    const refused = await command('group', 'promote-key', 'pool');
    expect(refused).toMatchObject({ exitCode: 1, err: expect.stringMatching(/\(KeyInUse\)/) });
    const done = await command('group', 'promote-key', 'pool', '--suspend-rest');
    expect(done.out).toBe('The next key of pool is the present one now\n');
    expect((await command('group', 'fingerprint', 'pool')).out).toBe(`${made.fingerprint}\n`);
  }, 60_000);

  test('cancel-rotation leaves the key as it is', async () => {
    await using bench = await machineBench();
    const command = commandsAt(bench);
    await bench.register('one');
    const id = member(await bench.ask('POST', '/groups', { name: 'pool' }), 'id');
    const { fingerprint } = await bench.join('one', id);
    await command('group', 'rotate-key', 'pool');
    expect((await command('group', 'cancel-rotation', 'pool')).out).toBe(
      'The key stays as it is\n',
    );
    expect((await command('group', 'fingerprint', 'pool')).out).toBe(`${fingerprint}\n`);
  }, 30_000);
});

test('halfway machine promote-key takes the key that the machine made', async () => {
  await using bench = await machineBench();
  const command = commandsAt(bench);
  const { record } = await bench.register('desk');
  await bench.connectTo({ kind: 'machine', id: record.machineId });
  const { folder, keyStore: keys, keys: own, access } = await bench.open('desk');
  const call = access.call.bind(access);
  const parts = { folder, keys, identity: own.identity, record, call };
  const next = await rotateEncryptionKey(parts, () => Promise.resolve());
  expect((await command('machine', 'promote-key', 'desk')).err).toMatch(/\(KeyInUse\)/);
  expect(await command('machine', 'promote-key', 'desk', '--suspend-rest')).toMatchObject({
    exitCode: 0,
  });
  expect((await command('machine', 'fingerprint', 'desk')).out).toBe(`${next}\n`);
}, 30_000);
