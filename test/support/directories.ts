import { systemClock } from '../../src/base/clock.ts';
import type { DirectoryTimes } from '../../src/cluster/limits.ts';
import type {
  DirectoryEvent,
  JoinResult,
  ListenerClaim,
  ListenerDirectory,
} from '../../src/cluster/listener-directory.ts';
import { MemoryCoordinator } from '../../src/cluster/memory-coordinator.ts';
import { openMemoryDirectory } from '../../src/cluster/memory-directory.ts';
import { openRedisDirectory } from '../../src/cluster/redis-directory.ts';
import { parseRedisUrl, type RedisTarget } from '../../src/redis/redis-url.ts';
import { FakeClock } from './fake-clock.ts';
import type { MemoryMesh } from './memory-mesh.ts';
import type { TestRedis } from './redis.ts';
import { startTcpProxy } from './tcp-proxy.ts';
import { until } from './within.ts';

/** Short, so that a real Redis can be waited for; in the proportions of the real ones. */
export const TEST_TIMES: DirectoryTimes = {
  leaseMs: 900,
  renewMs: 300,
  suspicionGraceMs: 200,
  feedWaitMs: 600,
  feedRetryMs: 30,
  joinTimeoutMs: 1_500,
  announcementSettleMs: 600,
};
export const TEST_COMMAND_TIMEOUT_MS = 400;

/** One node's directory, and the line between it and the coordinator. */
export interface DirectoryUnderTest {
  readonly directory: ListenerDirectory;
  readonly events: DirectoryEvent[];
  readonly joined: JoinResult;
  cut(): void;
  /** What it asks is done, and the answers are lost. */
  muffle(): void;
  mend(): void;
}

/** Several nodes around one coordinator; the same whatever that is. */
export interface DirectoriesUnderTest extends AsyncDisposable {
  /** Starts a node and waits until it joined, was refused, or works alone. */
  open(
    node: string,
    options?: { readonly cut?: boolean; readonly feedChangesMax?: number },
  ): Promise<DirectoryUnderTest>;
  /** Lets time pass: moves the fake clock, or waits. */
  elapse(ms: number): Promise<void>;
  /** Lets time pass until it is so. */
  until(what: string, isSo: () => boolean): Promise<void>;
  /** The coordinator is gone for everybody until the returned function is called. */
  outage(): Promise<() => Promise<void>>;
  /** The coordinator forgets everything. */
  erase(): Promise<void>;
  /** Links two nodes, or cuts the link, where there are links. */
  link?(a: string, b: string): void;
  unlink?(a: string, b: string): void;
}

const VERSIONS = { min: 1, max: 1 };

export function reportBug(bug: unknown): void {
  throw new Error('a bug of ours', { cause: bug });
}

let keys = 0;

/** A claim for the hybrid connection `orders` unless told otherwise, with a key of its own. */
export function aListener(changes: Partial<ListenerClaim> = {}): ListenerClaim {
  keys += 1;
  return {
    key: `key-${keys}`,
    namespace: 'tests',
    hybridConnection: 'orders',
    listenerId: `listener-${keys}`,
    origin: 'wss://relay.example',
    ...changes,
  };
}

export function targetOf(url: string): RedisTarget {
  const parsed = parseRedisUrl(url);
  if ('fault' in parsed) throw new Error(parsed.fault);
  return parsed.target;
}

/** On a coordinator in this process, in a time of our own; with a mesh, each is linked with all. */
export async function memoryDirectories(
  options: { readonly feedChangesMax?: number; readonly mesh?: MemoryMesh } = {},
): Promise<DirectoriesUnderTest> {
  const { mesh } = options;
  const clock = new FakeClock();
  const coordinator = new MemoryCoordinator(clock, options);
  const opened: (DirectoryUnderTest & { readonly isCut: () => boolean })[] = [];
  const elapse = async (ms: number): Promise<void> => {
    const stepMs = 10;
    for (let passedMs = 0; passedMs < ms; passedMs += stepMs) {
      clock.advance(stepMs);
      // Everything between two timers is promises: one turn of the loop carries it all out.
      await new Promise(resolve => void setImmediate(resolve));
    }
  };
  return {
    elapse,
    open: async (node, { cut = false } = {}) => {
      const { directory, link } = openMemoryDirectory(coordinator, {
        node,
        meshAddress: `${node}.example:7000`,
        versions: VERSIONS,
        times: TEST_TIMES,
        reportBug,
      });
      link.setUp(!cut);
      let wanted = !cut;
      const events: DirectoryEvent[] = [];
      directory.observe(event => events.push(event));
      mesh?.add(node, directory);
      for (const other of opened) mesh?.link(node, other.directory.self().node);
      const results: JoinResult[] = [];
      const joining = directory.join().then(result => results.push(result));
      while (results.length === 0) await elapse(10);
      await joining;
      const [joined = { type: 'alone', message: '' }] = results;
      const it = {
        directory,
        events,
        joined,
        isCut: () => !wanted,
        cut: () => {
          wanted = false;
          link.setUp(false);
        },
        muffle: () => {
          link.losesAnswers = true;
        },
        mend: () => {
          wanted = true;
          link.losesAnswers = false;
          link.setUp(true);
        },
      };
      opened.push(it);
      return it;
    },
    until: async (what, isSo) => {
      for (let passedMs = 0; !isSo(); passedMs += 10) {
        if (passedMs > 10_000) throw new Error(`${what}: not so after ${passedMs} ms`);
        await elapse(10);
      }
    },
    outage: async () => {
      const cut = opened.filter(it => !it.isCut());
      for (const it of cut) it.cut();
      return async () => {
        for (const it of cut) it.mend();
      };
    },
    erase: async () => coordinator.erase(),
    ...(mesh === undefined
      ? {}
      : { link: (a, b) => mesh.link(a, b), unlink: (a, b) => mesh.cut(a, b) }),
    [Symbol.asyncDispose]: async () => {
      for (const { directory } of opened) await directory.leave();
    },
  };
}

let clusters = 0;

/** On a real Redis; each call under a key prefix of its own. */
export async function redisDirectories(
  redis: TestRedis,
  options: { readonly feedChangesMax?: number } = {},
): Promise<DirectoriesUnderTest> {
  clusters += 1;
  const keyPrefix = `tests-${process.pid}-${clusters}`;
  const disposables = new UndoStack();
  return {
    elapse: wait,
    until: (what, isSo) => until(what, isSo, 10_000),
    open: async (node, { cut = false } = {}) => {
      const proxy = await startTcpProxy(redis.port);
      if (cut) proxy.cut();
      const directory = openRedisDirectory({
        node,
        meshAddress: `${node}.example:7000`,
        versions: VERSIONS,
        clock: systemClock,
        reportBug,
        target: targetOf(`redis://127.0.0.1:${proxy.port}`),
        keyPrefix,
        times: TEST_TIMES,
        commandTimeoutMs: TEST_COMMAND_TIMEOUT_MS,
        ...options,
      });
      disposables.add(async () => {
        await directory.leave();
        await proxy[Symbol.asyncDispose]();
      });
      const events: DirectoryEvent[] = [];
      directory.observe(event => events.push(event));
      const joined = await directory.join();
      return {
        directory,
        events,
        joined,
        cut: () => proxy.cut(),
        muffle: () => proxy.muffle(),
        mend: () => proxy.mend(),
      };
    },
    outage: async () => {
      redis.freeze();
      return async () => redis.thaw();
    },
    erase: async () => {
      const found = await redis.admin.keys(`{${keyPrefix}}:*`);
      if (found.length > 0) await redis.admin.del(...found);
    },
    [Symbol.asyncDispose]: () => disposables.dispose(),
  };
}

/** What is to be undone, last first. (Node 20 has no AsyncDisposableStack.) */
class UndoStack {
  readonly #undo: (() => Promise<void>)[] = [];

  add(undo: () => Promise<void>): void {
    this.#undo.push(undo);
  }

  async dispose(): Promise<void> {
    for (const undo of this.#undo.toReversed()) await undo();
  }
}

async function wait(ms: number): Promise<void> {
  await new Promise(resolve => void setTimeout(resolve, ms));
}
