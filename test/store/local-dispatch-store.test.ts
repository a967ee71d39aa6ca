import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { TEXT_CHARS_MAX, type DispatchStore, type Step } from '../../src/store/dispatch-store.ts';
import {
  LocalDispatchStore,
  type LocalPartition,
  type LocalRecords,
} from '../../src/store/local-dispatch-store.ts';
import { MemoryRecords } from '../../src/store/memory-dispatch-store.ts';
import { FakeClock } from '../support/fake-clock.ts';

const P = 'tests';

/** Records in memory with a disk that takes its time. */
class SlowDisk implements LocalRecords {
  readonly shown = 'slow disk';
  readonly isDurable = true;
  readonly durability = '';
  readonly clock = new FakeClock();
  readonly #records = new MemoryRecords();
  readonly #commitMs: number;
  commits = 0;

  constructor(commitMs: number) {
    this.#commitMs = commitMs;
  }

  partition(name: string): LocalPartition {
    return this.#records.partition(name);
  }

  read<Result>(run: () => Result): Result {
    return run();
  }

  write<Result>(run: () => Result): Result {
    const result = run();
    this.clock.advance(this.#commitMs);
    this.commits += 1;
    return result;
  }

  close(): void {
    this.#records.close();
  }
}

function opened(commitMs: number): { readonly disk: SlowDisk; readonly store: DispatchStore } {
  const disk = new SlowDisk(commitMs);
  return { disk, store: new LocalDispatchStore(disk, disk.clock) };
}

function add(member: string): Step {
  return { conditions: [], adds: [{ index: 'q', member, score: 1 }] };
}

/** There are two. */
function takePlace(member: string): Step {
  return { ...add(member), conditions: [{ type: 'index-below', index: 'q', count: 2 }] };
}

describe('LocalDispatchStore', () => {
  test('writes at once what comes now and then', async () => {
    const { disk, store } = opened(2);
    for (let n = 1; n <= 20; n += 1) {
      await store.step(P, add(`${n}`));
      expect(disk.commits).toBe(n);
      disk.clock.advance(20);
    }
    expect(disk.clock.pendingTasks).toBe(0);
  });

  test('lets a busy disk rest, and writes by one commit what is asked for meanwhile', async () => {
    const { disk, store } = opened(50);
    await store.step(P, add('first'));
    let settled = 0;
    const steps = ['a', 'b', 'c'].map(async member => {
      await store.step(P, add(member));
      settled += 1;
    });
    await turn();
    disk.clock.advance(4);
    await turn();
    expect({ commits: disk.commits, settled }).toEqual({ commits: 1, settled: 0 });
    // Nobody sees what may still be lost.
    expect(await store.count(P, 'q')).toBe(1);
    disk.clock.advance(2);
    await Promise.all(steps);
    expect({ commits: disk.commits, settled }).toEqual({ commits: 2, settled: 3 });
    expect(await store.count(P, 'q')).toBe(4);
  });

  test('compares each step with what those before it in its batch have written', async () => {
    const { disk, store } = opened(0);
    const outcomes = await Promise.all(
      ['a', 'b', 'c', 'd'].map(one => store.step(P, takePlace(one))),
    );
    expect(outcomes.map(({ type }) => type)).toEqual(['done', 'done', 'refused', 'refused']);
    expect(await store.count(P, 'q')).toBe(2);
    expect(disk.commits).toBe(1);
  });

  test('writes no more at a time than 100 steps, and not many long texts', async () => {
    const { disk, store } = opened(0);
    await Promise.all(Array.from({ length: 250 }, (_, n) => store.step(P, add(`${n}`))));
    expect(disk.commits).toBe(3);
    const text = 'x'.repeat(TEXT_CHARS_MAX);
    const long = ['a', 'b', 'c'].map(id => ({
      conditions: [],
      puts: [{ key: { kind: 'run', id }, text }],
    }));
    await Promise.all(long.map(step => store.step(P, step)));
    expect(disk.commits).toBe(6);
  });

  test('close() takes what waits for the disk to rest', async () => {
    const { disk, store } = opened(50);
    await store.step(P, add('first'));
    const step = store.step(P, add('second'));
    await store.close();
    expect(await step).toEqual({ type: 'done' });
    expect(disk.commits).toBe(2);
    expect(disk.clock.pendingTasks).toBe(0);
  });
});
