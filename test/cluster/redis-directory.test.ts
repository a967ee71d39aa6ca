import { afterAll, beforeAll } from 'vitest';
import { describeListenerDirectory } from '../conformance/listener-directory.ts';
import { redisDirectories } from '../support/directories.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';

let redis: TestRedis;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(async () => {
  await redis[Symbol.asyncDispose]();
});

describeListenerDirectory('RedisDirectory', options => redisDirectories(redis, options));
