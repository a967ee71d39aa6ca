import fc from 'fast-check';
import { afterAll, beforeAll, test } from 'vitest';
import { happening, runHistory } from '../conformance/directory-histories.ts';
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

test('after any history all memories are what the nodes hold and Redis has', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(happening, { minLength: 10, maxLength: 30 }), async history => {
      await runHistory(() => redisDirectories(redis), history);
    }),
    { numRuns: 3, endOnFailure: true },
  );
});
