import { describe, expect, test } from 'vitest';
import type { RedisClient } from '../../src/redis/client.ts';
import { checkServer, compareVersions } from '../../src/redis/server-check.ts';

/** Answers INFO with these lines and nothing else. */
function serverWith(...lines: readonly string[]): RedisClient {
  return {
    shown: 'redis://r:6379',
    isUp: true,
    commandsSent: 0,
    losses: 0,
    lastFault: '',
    call: async () => ['# Server', ...lines].join('\r\n'),
    onUpChange: () => undefined,
    untilUp: async () => true,
    reconnect: () => undefined,
    close: () => undefined,
  };
}

describe('checkServer()', () => {
  test('takes a server of today', async () => {
    const server = serverWith('redis_version:7.0.15', 'role:master', 'maxmemory_policy:noeviction');
    expect(await checkServer(server)).toEqual({ version: '7.0.15', warnings: [] });
  });

  test('refuses one that is too old, and says what is needed', async () => {
    expect(await checkServer(serverWith('redis_version:6.0.16'))).toMatchObject({
      refusal: 'Redis at redis://r:6379 is version 6.0.16, and 6.2 or later is needed: upgrade it',
    });
  });

  test('refuses what does not say its version', async () => {
    expect(await checkServer(serverWith())).toHaveProperty('refusal');
  });

  test('refuses a replica', async () => {
    const replica = serverWith('redis_version:7.2.0', 'role:slave');
    expect(await checkServer(replica)).toHaveProperty(
      'refusal',
      expect.stringContaining('replica'),
    );
  });

  test('warns of a policy that drops records', async () => {
    const server = serverWith('redis_version:7.2.0', 'maxmemory_policy:volatile-lru');
    expect((await checkServer(server)).warnings).toEqual([
      expect.stringContaining('set maxmemory-policy noeviction'),
    ]);
  });
});

describe('compareVersions()', () => {
  test.each([
    ['6.2', '6.2.0', 0],
    ['6.10.1', '6.2', 8],
    ['7', '8.0.2', -1],
    ['junk', '6.2', -6],
  ])('%s against %s is %i', (one, other, difference) => {
    expect(compareVersions(one, other)).toBe(difference);
  });
});
