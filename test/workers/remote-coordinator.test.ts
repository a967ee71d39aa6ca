import { expect, test } from 'vitest';
import { CoordinatorError } from '../../src/cluster/coordinator.ts';
import { MemberDirectory } from '../../src/cluster/member-directory.ts';
import { MemoryCoordinator } from '../../src/cluster/memory-coordinator.ts';
import type { DirectoryEvent, JoinResult } from '../../src/cluster/listener-directory.ts';
import { RemoteCoordinator, serveCoordinator } from '../../src/workers/remote-coordinator.ts';
import { CALLS_MAX } from '../../src/workers/rpc.ts';
import { describeListenerDirectory } from '../conformance/listener-directory.ts';
import {
  reportBug,
  TEST_COMMAND_TIMEOUT_MS,
  TEST_TIMES,
  type DirectoriesUnderTest,
  type DirectoryUnderTest,
} from '../support/directories.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { testLines } from '../support/lines.ts';

describeListenerDirectory('a directory over RemoteCoordinator', workerDirectories);

const HOLDER = { node: 'a', epoch: `${'0'.repeat(32)}.1` };
const LEASE = { record: { part: 1, text: '{}' }, leaseMs: 1_000, previousEpoch: '' };

test('what serveCoordinator() returns gives up the lease that the worker held', async () => {
  const clock = new FakeClock();
  const coordinator = new MemoryCoordinator(clock);
  const lines = testLines();
  const gone = serveCoordinator(lines.parent, coordinator, reportBug);
  const remote = new RemoteCoordinator(lines.worker, clock);
  expect(await remote.take(HOLDER, LEASE)).toEqual({ type: 'taken' });
  gone();
  expect(coordinator.state().nodes).toEqual([]);
});

test('a parent that does not answer, or has too much to do, is away', async () => {
  const clock = new FakeClock();
  const lines = testLines();
  serveCoordinator(lines.parent, new MemoryCoordinator(clock), reportBug);
  const remote = new RemoteCoordinator(lines.worker, clock, { stepTimeoutMs: 50 });
  lines.muffled = true;
  const kinds = Array.from({ length: CALLS_MAX }, () => remote.state().catch(kindOf));
  expect(await remote.state().catch(kindOf)).toBe('away');
  clock.advance(50);
  expect(new Set(await Promise.all(kinds))).toEqual(new Set(['away']));
  lines.muffled = false;
  expect((await remote.state()).nodes).toEqual([]);
});

test('close() ends a read under way, and every later step', async () => {
  const clock = new FakeClock();
  const lines = testLines();
  serveCoordinator(lines.parent, new MemoryCoordinator(clock), reportBug);
  const remote = new RemoteCoordinator(lines.worker, clock);
  const { position } = await remote.state();
  const read = remote.read(position, 60_000).catch(kindOf);
  remote.close();
  expect(await read).toBe('away');
  expect(await remote.state().catch(kindOf)).toBe('away');
  expect(remote.isUp).toBe(false);
});

function kindOf(error: unknown): string {
  return error instanceof CoordinatorError ? error.kind : `not ours: ${String(error)}`;
}

/** As `memoryDirectories`, each behind a line of its own. */
async function workerDirectories(
  options: { readonly feedChangesMax?: number } = {},
): Promise<DirectoriesUnderTest> {
  const clock = new FakeClock();
  const coordinator = new MemoryCoordinator(clock, options);
  const opened: (DirectoryUnderTest & { readonly isCut: () => boolean })[] = [];
  const elapse = async (ms: number): Promise<void> => {
    for (let passedMs = 0; passedMs < ms; passedMs += 10) {
      clock.advance(10);
      // Lines in this process are promises, too: one turn of the loop carries all out.
      await new Promise(resolve => void setImmediate(resolve));
    }
  };
  return {
    elapse,
    open: async (node, { cut = false } = {}) => {
      const lines = testLines();
      serveCoordinator(lines.parent, coordinator, reportBug);
      lines.setUp(!cut);
      const directory = new MemberDirectory({
        coordinator: new RemoteCoordinator(lines.worker, clock, {
          stepTimeoutMs: TEST_COMMAND_TIMEOUT_MS,
        }),
        clock,
        times: TEST_TIMES,
        node,
        meshAddress: `${node}.example:7000`,
        versions: { min: 1, max: 1 },
        reportBug,
      });
      let isWanted = !cut;
      const events: DirectoryEvent[] = [];
      directory.observe(event => events.push(event));
      const results: JoinResult[] = [];
      const joining = directory.join().then(result => results.push(result));
      while (results.length === 0) await elapse(10);
      await joining;
      const [joined = { type: 'alone', message: '' }] = results;
      const it = {
        directory,
        events,
        joined,
        isCut: () => !isWanted,
        cut: () => {
          isWanted = false;
          lines.setUp(false);
        },
        muffle: () => {
          lines.muffled = true;
        },
        mend: () => {
          isWanted = true;
          lines.muffled = false;
          lines.setUp(true);
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
    [Symbol.asyncDispose]: async () => {
      const left: string[] = [];
      const leaving = opened.map(async ({ directory }) => {
        await directory.leave();
        left.push(directory.self().node);
      });
      while (left.length < opened.length) await elapse(10);
      await Promise.all(leaving);
    },
  };
}
