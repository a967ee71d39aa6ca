import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import {
  COMMANDS_IN_FLIGHT_MAX,
  openRedis,
  RECONNECT_DELAY_MS_MAX,
  reconnectDelayMs,
  type RedisClient,
  type RedisClientOptions,
} from '../../src/redis/client.ts';
import { RedisAwayError, RedisReplyError } from '../../src/redis/errors.ts';
import { targetOf } from '../support/directories.ts';
import { freePort } from '../support/ports.ts';
import { startRedis } from '../support/redis.ts';
import { until } from '../support/within.ts';

const COMMAND_TIMEOUT_MS = 200;

function open(url: string, options: Partial<RedisClientOptions> = {}): RedisClient & Disposable {
  const client = openRedis({
    target: targetOf(url),
    clock: systemClock,
    connectionName: 'tests',
    commandTimeoutMs: COMMAND_TIMEOUT_MS,
    blockingMsMax: 0,
    ...options,
  });
  return Object.assign(client, { [Symbol.dispose]: () => client.close() });
}

describe('reconnectDelayMs()', () => {
  test('doubles up to its limit, the upper half of it random', () => {
    expect([1, 2, 3].map(attempt => reconnectDelayMs(attempt, () => 1))).toEqual([100, 200, 400]);
    expect([1, 2, 3].map(attempt => reconnectDelayMs(attempt, () => 0))).toEqual([50, 100, 200]);
    expect(reconnectDelayMs(1_000_000, () => 1)).toBe(RECONNECT_DELAY_MS_MAX);
  });
});

describe('a Redis client', () => {
  test('call() fails at once while nothing is there, and says why without the secret', async () => {
    using client = open(`redis://user:hunter2@127.0.0.1:${await freePort()}`);
    await until('it tried', () => client.lastFault !== '');
    const failure = await client.call('PING', []).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(RedisAwayError);
    expect(String(failure)).toContain('ECONNREFUSED');
    expect(String(failure)).not.toContain('hunter2');
    expect(client.commandsSent).toBe(0);
    expect(await client.untilUp(20)).toBe(false);
  });

  test('tells when it is up and down, and comes back by itself', async () => {
    await using redis = await startRedis();
    using client = open(redis.url);
    const states: boolean[] = [];
    client.onUpChange(isUp => states.push(isUp));
    expect(await client.untilUp(5_000)).toBe(true);
    expect(await client.call('PING', [])).toBe('PONG');
    await redis.kill();
    await until('it is down', () => !client.isUp);
    await redis.start();
    await until('it is up', () => client.isUp);
    expect(states).toEqual([true, false, true]);
    expect(client.losses).toBe(1);
  });

  test('call() gives up a Redis that does not answer, and what waits fails with it', async () => {
    await using redis = await startRedis();
    using client = open(redis.url);
    await client.untilUp(5_000);
    redis.freeze();
    const calls = Array.from({ length: COMMANDS_IN_FLIGHT_MAX }, () => client.call('PING', []));
    const tooMany = await client.call('PING', []).catch((error: unknown) => error);
    expect(String(tooMany)).toContain('is slow: 1024 commands wait');
    const results = await Promise.allSettled(calls);
    expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(
      COMMANDS_IN_FLIGHT_MAX,
    );
    expect(client.isUp).toBe(false);
    redis.thaw();
    await until('it is up', () => client.isUp);
    expect(await client.call('PING', [])).toBe('PONG');
  });

  test('call() tells a refusal by Redis from its absence', async () => {
    await using redis = await startRedis();
    using client = open(redis.url);
    await client.untilUp(5_000);
    await client.call('SET', ['text', 'x']);
    const failure = await client.call('HGET', ['text', 'x']).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(RedisReplyError);
    expect(failure).toMatchObject({ code: 'WRONGTYPE' });
    expect(client.isUp).toBe(true);
  });

  test('the password of a file takes the place of the URL’s', async () => {
    await using redis = await startRedis(['--requirepass', 'from the file']);
    const directory = mkdtempSync(join(tmpdir(), 'halfway-password-'));
    const passwordFile = join(directory, 'password');
    writeFileSync(passwordFile, 'from the file\n');
    try {
      using right = open(`redis://:wrong@127.0.0.1:${redis.port}`, { passwordFile });
      expect(await right.untilUp(5_000)).toBe(true);
      using wrong = open(`redis://:wrong@127.0.0.1:${redis.port}`);
      await until('it is refused', () => wrong.lastFault.includes('WRONGPASS'));
      expect(wrong.isUp).toBe(false);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
