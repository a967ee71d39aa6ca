import { describe, expect, test } from 'vitest';
import type { RedisArgument, RedisClient } from '../../src/redis/client.ts';
import { RedisReplyError } from '../../src/redis/errors.ts';
import { durabilityOf } from '../../src/store/redis-durability.ts';
import { StoreError } from '../../src/store/relay-store.ts';
import { openDispatchNode } from '../support/dispatch-nodes.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { Inbox } from '../support/inbox.ts';
import { startRedis } from '../support/redis.ts';
import { until } from '../support/within.ts';

const P = 'tests';

function infoOf(fields: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  const all = { redis_version: '7.4.1', redis_mode: 'standalone', aof_enabled: '1', ...fields };
  return new Map(Object.entries(all));
}

describe('durabilityOf()', () => {
  const NEVER_LOST = { waits: false, reason: '' };

  test.each([
    ['always', {}, NEVER_LOST],
    ['always', { redis_version: '6.2.0' }, NEVER_LOST],
    ['always', { redis_mode: 'cluster' }, NEVER_LOST],
    ['everysec', {}, { waits: true, reason: '', intervalMs: 1_000 }],
    ['everysec', { redis_version: '7.2.0' }, { waits: true, reason: '', intervalMs: 1_000 }],
    [undefined, {}, { waits: true, reason: '' }],
  ])('needs no words for appendfsync %s with %o', (appendfsync, fields, durability) => {
    expect(durabilityOf('Redis', infoOf(fields), appendfsync)).toEqual(durability);
  });

  test.each([
    ['always', { aof_enabled: '0' }, /no append-only file.*set appendonly yes$/],
    ['everysec', { redis_version: '7.0.15' }, /before version 7\.2.*7\.0\.15.*appendfsync always$/],
    [undefined, { redis_version: '7.0.15' }, /before version 7\.2/],
    ['everysec', { redis_mode: 'cluster' }, /Redis Cluster cannot be asked.*appendfsync always$/],
    ['no', {}, /when its system likes.*appendfsync always$/],
  ])('says what may be lost with appendfsync %s and %o', (appendfsync, fields, reason) => {
    const durability = durabilityOf('Redis at x', infoOf(fields), appendfsync);
    expect(durability).toEqual({ waits: false, reason: expect.stringMatching(reason) });
    expect(durability.reason).toMatch(/^Redis at x /);
  });
});

/** A real connection, but the server claims to be a newer one with a disk that the test is. */
class NewerServer implements RedisClient {
  readonly waits = new Inbox<(outcome: unknown) => void>('WAITAOF');
  readonly commands: string[] = [];
  /** '' is a secret. */
  appendfsync = '';
  readonly #client: RedisClient;

  constructor(client: RedisClient) {
    this.#client = client;
  }

  get shown() {
    return this.#client.shown;
  }

  get isUp() {
    return this.#client.isUp;
  }

  get commandsSent() {
    return this.#client.commandsSent;
  }

  get losses() {
    return this.#client.losses;
  }

  get lastFault() {
    return this.#client.lastFault;
  }

  async call(command: string, args: readonly RedisArgument[], timeoutMs?: number) {
    this.commands.push(command);
    if (command === 'INFO') return 'redis_version:7.4.1\r\naof_enabled:1\r\n';
    if (command === 'CONFIG') {
      if (this.appendfsync === '') throw new RedisReplyError('NOPERM this user may not');
      return ['appendfsync', this.appendfsync];
    }
    if (command !== 'WAITAOF') return this.#client.call(command, args, timeoutMs);
    const outcome = await new Promise<unknown>(resolve => this.waits.put(resolve));
    if (outcome instanceof Error) throw outcome;
    return outcome;
  }

  onUpChange(observer: (isUp: boolean) => void): void {
    this.#client.onUpChange(observer);
  }

  untilUp(timeoutMs: number): Promise<boolean> {
    return this.#client.untilUp(timeoutMs);
  }

  reconnect(): void {
    this.#client.reconnect();
  }

  close(): void {
    this.#client.close();
  }
}

async function open() {
  const redis = await startRedis();
  const clock = new FakeClock();
  const servers: NewerServer[] = [];
  const node = await openDispatchNode({
    url: redis.url,
    clock,
    disk: client => {
      servers.push(new NewerServer(client));
      return servers[0] ?? client;
    },
  });
  const [server] = servers;
  if (server === undefined) throw new Error('No connection was asked for');
  let answered = 0;
  let steps = 0;
  return {
    store: node.store,
    server,
    clock,
    answered: () => answered,
    step: async () => {
      steps += 1;
      const key = { kind: 'run', id: `${steps}` };
      const outcome = await node.store.step(P, { conditions: [], puts: [{ key, text: '{}' }] });
      answered += 1;
      return outcome;
    },
    has: async (id: string) => (await node.store.get(P, { kind: 'run', id })) !== undefined,
    [Symbol.asyncDispose]: async () => {
      await node[Symbol.asyncDispose]();
      await redis[Symbol.asyncDispose]();
    },
  };
}

describe('RedisDispatchStore.step() where Redis can wait for the disk', () => {
  test('is answered when the disk has it, many at once', async () => {
    await using it = await open();
    const first = it.step();
    const firstOnDisk = await it.server.waits.next();
    const others = Promise.all([it.step(), it.step(), it.step()]);
    await until('they are taken', () => it.has('4'));
    expect(it.answered()).toBe(0);
    firstOnDisk([1, 0]);
    expect(await first).toEqual({ type: 'done' });
    const othersOnDisk = await it.server.waits.next();
    expect(it.answered()).toBe(1);
    othersOnDisk([1, 0]);
    await others;
    expect(it.answered()).toBe(4);
    expect(it.store.durability).toBe('');
    // What was waited for is a write of the same connection, behind the steps.
    const batch = ['XADD', 'WAITAOF'];
    expect(it.server.commands).toEqual(['INFO', 'CONFIG', ...batch, ...batch]);
  });

  test('rejects with StoreError when the disk takes too long, and the next one is tried anew', async () => {
    await using it = await open();
    const late = it.step();
    (await it.server.waits.next())([0, 0]);
    await expect(late).rejects.toThrow(StoreError);
    await expect(late).rejects.toThrow(/did not write to its disk within 4000 ms/);
    const next = it.step();
    (await it.server.waits.next())([1, 0]);
    expect(await next).toEqual({ type: 'done' });
  });

  test('is not held up by a server that says no, and says so', async () => {
    await using it = await open();
    const step = it.step();
    (await it.server.waits.next())(new RedisReplyError("ERR unknown command 'WAITAOF'"));
    expect(await step).toEqual({ type: 'done' });
    expect(it.store.durability).toContain('"ERR unknown command \'WAITAOF\'"');
    expect(it.store.durability).toContain('allow WAITAOF, or set appendfsync always');
    expect(await it.step()).toEqual({ type: 'done' });
  });

  test('finds nothing wrong with a server that writes once a second', async () => {
    await using it = await open();
    it.server.appendfsync = 'everysec';
    for (let i = 0; i < 3; i += 1) {
      const step = it.step();
      const onDisk = await it.server.waits.next();
      it.clock.advance(1_000);
      onDisk([1, 0]);
      await step;
      expect(it.store.durability).toBe('');
    }
  });

  test('is told of a server that answers before it can have written', async () => {
    await using it = await open();
    it.server.appendfsync = 'everysec';
    for (const reason of [/^$/, /says that it has before it has.*set appendfsync always$/]) {
      const step = it.step();
      (await it.server.waits.next())([1, 0]);
      expect(await step).toEqual({ type: 'done' });
      expect(it.store.durability).toMatch(reason);
    }
    const step = it.step();
    await until('it is taken', () => it.has('3'));
    expect(it.answered()).toBe(2);
    (await it.server.waits.next())([1, 0]);
    expect(await step).toEqual({ type: 'done' });
  });

  test('does not wait where nothing was written', async () => {
    await using it = await open();
    const key = { kind: 'run', id: 'a' };
    const step = { conditions: [{ type: 'version' as const, key, version: 5 }], removes: [key] };
    expect(await it.store.step(P, step)).toEqual({ type: 'refused', condition: 0 });
    expect(await it.store.step(P, { conditions: [] })).toEqual({ type: 'done' });
    expect(it.server.commands).toEqual([]);
  });
});

describe('RedisDispatchStore.durability', () => {
  test('is unknown until a step or somebody asks', async () => {
    await using redis = await startRedis();
    await using it = await openDispatchNode({ url: redis.url });
    expect(it.store.durability).toContain('has not been asked');
    await it.store.step(P, { conditions: [], removes: [{ kind: 'run', id: 'a' }] });
    expect(it.store.durability).toContain('keeps no append-only file');
  });

  test('follows another server that takes over', async () => {
    await using redis = await startRedis();
    await using it = await openDispatchNode({ url: redis.url });
    expect(await it.store.askDurability()).toContain('keeps no append-only file');
    await redis.kill();
    await until('it is noticed', () => it.store.durability.includes('has not been asked'));
    await expect(it.store.askDurability()).rejects.toThrow(StoreError);
    await redis.start();
    await until('it is back', async () =>
      it.store.askDurability().then(
        reason => reason.includes('keeps no append-only file'),
        () => false,
      ),
    );
  });
});
