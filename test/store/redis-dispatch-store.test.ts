import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dispatchKeys } from '../../src/redis/keys.ts';
import { StoreError } from '../../src/store/relay-store.ts';
import { describeDispatchStore } from '../conformance/dispatch-store.ts';
import { openDispatchNode, openDispatchNodes } from '../support/dispatch-nodes.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { until, within } from '../support/within.ts';

const P = 'tests';
const RUN = { kind: 'run', id: 'a' };
const DONE = { type: 'done' };
const PUT = { conditions: [], puts: [{ key: RUN, text: '{}' }] };
const SURE = ['--appendonly', 'yes', '--appendfsync', 'always'];

let redis: TestRedis;
let prefixes = 0;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(async () => {
  await redis[Symbol.asyncDispose]();
});

async function open() {
  prefixes += 1;
  return openDispatchNodes({ url: redis.url, keyPrefix: `tests${prefixes}` });
}

describeDispatchStore('RedisDispatchStore', open);

describe('RedisDispatchStore', () => {
  test('keeps nothing in Redis of what was removed, dropped and cleared', async () => {
    await using redisAlone = await startRedis();
    await using it = await openDispatchNode({ url: redisAlone.url, keyPrefix: 'a' });
    await it.store.step(P, {
      conditions: [{ type: 'member', index: 'looked-at', member: 'a', isIn: false }],
      puts: [{ key: RUN, text: '{}' }],
      adds: ['q', 'r'].map(index => ({ index, member: 'a', score: 1 })),
      appends: [{ log: 'events', text: 'x', keep: 9 }],
    });
    const keys = dispatchKeys('a');
    const { feed } = keys;
    const indexes = ['q', 'r'].map(index => keys.index(P, index));
    const ours = [keys.document(P, 'run', 'a'), ...indexes, keys.log(P, 'events')];
    await until('the hint was written', async () => (await redisAlone.admin.dbsize()) === 5);
    expect((await redisAlone.admin.keys('*')).toSorted()).toEqual([feed, ...ours].toSorted());
    await it.store.step(P, {
      conditions: [],
      removes: [RUN],
      drops: [{ index: 'q', member: 'a' }],
      clears: [{ index: 'r', log: 'events' }],
    });
    expect(await redisAlone.admin.keys('*')).toEqual([feed]);
  });

  test('takes steps after Redis has forgotten its scripts', async () => {
    await using it = await open();
    await it.store.step(P, PUT);
    await redis.admin.script('FLUSH');
    expect(await it.store.step(P, PUT)).toEqual(DONE);
    expect(await it.store.get(P, RUN)).toMatchObject({ version: 2 });
  });

  test('has every step that was answered after Redis was killed, where it says so', async () => {
    await using sure = await startRedis(SURE);
    await using it = await openDispatchNode({ url: sure.url });
    expect(await it.store.askDurability()).toBe('');
    let answered = 0;
    const writing = (async () => {
      for (;;) {
        await it.store.step(P, { ...PUT, appends: [{ log: 'events', text: 'x', keep: 100_000 }] });
        answered += 1;
      }
    })().catch((error: unknown) => error);
    await until('some steps were answered', () => answered >= 100);
    await sure.kill();
    expect(await writing).toBeInstanceOf(StoreError);
    await sure.start();
    await using after = await openDispatchNode({ url: sure.url });
    const version = (await after.store.get(P, RUN))?.version;
    expect([answered, answered + 1]).toContain(version);
    const { entries } = await after.store.log(P, 'events', { after: answered - 1, limit: 9 });
    expect(entries[0]?.number).toBe(answered);
  });

  test('rejects with StoreError while Redis is away, and goes on when it is back', async () => {
    await using own = await startRedis();
    await using it = await openDispatchNode({ url: own.url });
    let gaps = 0;
    const told: string[] = [];
    it.store.watch(
      (_partition, topics) => told.push(...topics),
      () => (gaps += 1),
    );
    await until('the watch has begun', () => gaps === 1);
    await own.kill();
    await expect(within('the refusal', it.store.step(P, PUT))).rejects.toThrow(StoreError);
    await expect(within('the refusal', it.store.get(P, RUN))).rejects.toThrow(StoreError);
    await expect(within('the refusal', it.store.count(P, 'q'))).rejects.toThrow(StoreError);
    await own.start();
    await until('the watch is told that it missed something', () => gaps === 2);
    await until('steps are taken again', async () =>
      it.store.step(P, PUT).then(
        () => true,
        () => false,
      ),
    );
    await using other = await openDispatchNode({ url: own.url });
    await other.store.step(P, { conditions: [], adds: [{ index: 'q', member: 'a', score: 1 }] });
    await until('the watch tells what another node did', () => told.includes('q'));
  });

  test('says what lies under its keys', async () => {
    await using it = await open();
    const keys = dispatchKeys(`tests${prefixes}`);
    await redis.admin.set(keys.index(P, 'q'), 'theirs');
    const add = it.store.step(P, { conditions: [], adds: [{ index: 'q', member: 'a', score: 1 }] });
    await expect(add).rejects.toThrow(StoreError);
    await expect(add).rejects.toThrow(/foreign data.*key prefix/);
    await redis.admin.set(keys.document(P, 'run', 'a'), 'theirs');
    await expect(it.store.get(P, RUN)).rejects.toThrow(/foreign data/);
    await expect(it.store.get(P, RUN)).rejects.toThrow(StoreError);
  });

  test('says so when Redis has no room, and has done nothing then', async () => {
    await using small = await startRedis(['--maxmemory', '2mb']);
    await using it = await openDispatchNode({ url: small.url });
    await it.store.step(P, PUT);
    await small.admin.config('SET', 'maxmemory', '1mb');
    const step = it.store.step(P, { ...PUT, adds: [{ index: 'q', member: 'a', score: 1 }] });
    await expect(step).rejects.toThrow(StoreError);
    await expect(step).rejects.toThrow(/out of memory/);
    expect(await it.store.get(P, RUN)).toMatchObject({ version: 1 });
    expect(await it.store.count(P, 'q')).toBe(0);
  });

  test('watch() tells of a gap when there is too much to tell', async () => {
    await using it = await open();
    let gaps = 0;
    it.other.watch(
      () => undefined,
      () => (gaps += 1),
    );
    await until('the watch has begun', () => gaps === 1);
    const adds = Array.from({ length: 100 }, (_, i) => ({
      index: `${i}-${'x'.repeat(250)}`,
      member: 'a',
      score: 1,
    }));
    await it.store.step(P, { conditions: [], adds });
    await until('a gap is told', () => gaps === 2);
  });

  test('watch() calls onGap for each watch that begins, but not for one that has ended', async () => {
    await using it = await open();
    const gaps: string[] = [];
    it.store.watch(
      () => undefined,
      () => gaps.push('first'),
    );
    await until('the first has begun', () => gaps.length === 1);
    it.store.watch(
      () => undefined,
      () => gaps.push('ended'),
    )();
    it.store.watch(
      () => undefined,
      () => gaps.push('second'),
    );
    await until('the second has begun', () => gaps.length === 2);
    expect(gaps).toEqual(['first', 'second']);
  });
});
