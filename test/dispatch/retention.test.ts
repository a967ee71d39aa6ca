import { createHash } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { CHALLENGE } from '../../src/dispatch/records.ts';
import { Draft } from '../../src/dispatch/repository.ts';
import { RUN } from '../../src/dispatch/run-record.ts';
import { Retention } from '../../src/dispatch/retention.ts';
import { writeOutput } from '../../src/dispatch/run-outputs.ts';
import { takeOnce } from '../../src/dispatch/assertions.ts';
import { ANN, dispatchBench, ENVIRONMENT_DEV, type DispatchBench } from '../support/dispatch.ts';
import { openMemoryDispatchStore } from '../../src/store/memory-dispatch-store.ts';
import type { DispatchStore, Step } from '../../src/store/dispatch-store.ts';

const DAY_MS = 24 * 3_600_000;

let bench: DispatchBench;
let written: Written;
let runDays: number | undefined;
let retention: Retention;

/** What is in a store after all that was written to it: names of documents, and members and logs of all kinds. */
class Written {
  readonly store: DispatchStore = openMemoryDispatchStore();
  readonly #documents = new Set<string>();
  readonly #indexes = new Set<string>();
  readonly #logs = new Set<string>();

  constructor() {
    const step = this.store.step.bind(this.store);
    this.store.step = async (partition: string, given: Step) => {
      for (const { key } of given.puts ?? []) this.#documents.add(`${key.kind} ${key.id}`);
      for (const { index } of given.adds ?? []) this.#indexes.add(index);
      for (const { log } of given.appends ?? []) this.#logs.add(log);
      return step(partition, given);
    };
  }

  /** Everything that is still there and names this. */
  async leftOf(name: string): Promise<readonly string[]> {
    const left: string[] = [];
    for (const document of this.#documents) {
      const [kind = '', id = ''] = document.split(' ');
      const found = await this.store.get('dev', { kind, id });
      if (found !== undefined && (id + found.text).includes(name)) left.push(document);
    }
    for (const index of this.#indexes) {
      const entries = await this.store.range('dev', index, { limit: 1_000 });
      const isThere = entries.some(({ member }) => member.includes(name));
      if (isThere || (index.includes(name) && entries.length > 0)) left.push(index);
    }
    for (const log of this.#logs) {
      const { entries } = await this.store.log('dev', log, { after: 0, limit: 1_000 });
      const isThere = entries.some(({ text }) => text.includes(name));
      if (isThere || (log.includes(name) && entries.length > 0)) left.push(log);
    }
    return left;
  }
}

beforeEach(async () => {
  written = new Written();
  bench = dispatchBench(written.store);
  runDays = undefined;
  retention = new Retention(bench.repository, bench.clock, () => Promise.resolve(runDays));
  await bench.addMachine('m1');
  await bench.addConnection('c1', { kind: 'machine', id: 'm1' });
});

/** A run that has everything that a run can have. */
async function ended(): Promise<string> {
  const id = await bench.submit({ inputs: { secret: 'canary-input' } });
  await bench.changes.advance(id, { type: 'picked', machineId: 'm1' });
  const about = { runId: id, attempt: 1, fence: 1 };
  await bench.reports.start('m1', { ...about, instance: 'i1' });
  await bench.reports.progress('m1', { v: 1, type: 'progress', ...about, step: 'canary-step' });
  const bytes = Buffer.from('canary-log');
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  await bench.logs.append('m1', { ...about, offset: 0, sha256, bytes });
  const outputs = { text: 'canary-output'.repeat(100_000) };
  await bench.reports.result('m1', {
    v: 1,
    type: 'result',
    ...about,
    status: 'Succeeded',
    outputs,
  });
  return id;
}

describe('runs', () => {
  test('are removed a week after their end with all that is theirs', async () => {
    const id = await ended();
    expect((await written.leftOf(id)).length).toBeGreaterThan(8);
    bench.clock.advance(7 * DAY_MS - 1);
    await expect(retention.sweep()).resolves.toBe(0);
    await expect(bench.runs.outputs(ANN, id)).resolves.toContain('canary-output');
    bench.clock.advance(1);
    await expect(retention.sweep()).resolves.toBe(1);
    // The count of the minute in which it was submitted goes with the next run of the connection.
    const left = (await written.leftOf(id)).filter(name => !name.startsWith('rate:'));
    expect(left).toEqual([]);
    await expect(written.leftOf('canary-')).resolves.toEqual([]);
    const log = Buffer.from('canary-log').toString('base64');
    await expect(written.leftOf(log)).resolves.toEqual([]);
    await expect(bench.runs.get(ANN, id)).rejects.toMatchObject({ code: 'NotFound' });
    await expect(bench.runs.list(ANN, {})).resolves.toMatchObject({ items: [] });
  });

  test('are kept for as long as the environment says', async () => {
    const id = await ended();
    runDays = 30;
    bench.clock.advance(29 * DAY_MS);
    await retention.sweep();
    await expect(bench.state(id)).resolves.toBe('Succeeded');
    runDays = 1;
    await retention.sweep();
    await expect(bench.changes.get(id)).rejects.toMatchObject({ code: 'NotFound' });
  });

  test('that are not over stay, however old they are', async () => {
    const id = await bench.submit({ queueTimeoutSeconds: 7 * 24 * 3_600 });
    bench.clock.advance(400 * DAY_MS);
    await retention.sweep();
    await expect(bench.state(id)).resolves.toBe('Queued');
  });

  test('are removed once, some at a time, however many sweep at once', async () => {
    for (let count = 0; count < 120; count += 1) {
      if (count % 60 === 0) bench.clock.advance(60_000);
      await bench.control.cancel(ANN, await bench.submit(), 'stop');
    }
    bench.clock.advance(7 * DAY_MS);
    const removed = await Promise.all([retention.sweep(), retention.sweep()]);
    expect((removed[0] ?? 0) + (removed[1] ?? 0)).toBe(100);
    await expect(retention.sweep()).resolves.toBe(20);
    await expect(bench.repository.count('runs')).resolves.toBe(0);
  });

  test('leave no outputs of a result that was never taken', async () => {
    const id = await ended();
    await bench.repository.change(async () => {
      const run = await bench.changes.get(id);
      const draft = new Draft().replace(RUN, run, {
        ...run.value,
        fence: 2,
      });
      return { draft, answer: undefined };
    });
    await writeOutput(bench.repository, `${id}.2`, 'canary-stray'.repeat(100_000));
    bench.clock.advance(7 * DAY_MS);
    await retention.sweep();
    await expect(written.leftOf('canary-')).resolves.toEqual([]);
  });
});

test('keys of repeated requests are forgotten after a day, however many there are', async () => {
  for (let count = 0; count < 120; count += 1) {
    if (count % 60 === 0) bench.clock.advance(60_000);
    const body = { connectionId: 'c1', job: { ref: 'j', kind: 'probe' } };
    const submission = { body, key: `${count}`, trigger: 'api' };
    await bench.runs.submit(ANN, ENVIRONMENT_DEV, submission);
  }
  bench.clock.advance(DAY_MS - 60_001);
  await retention.sweep();
  await expect(bench.repository.count('idem-expiry')).resolves.toBe(120);
  bench.clock.advance(60_001);
  await retention.sweep();
  await expect(bench.repository.count('idem-expiry')).resolves.toBe(0);
});

test('challenges and assertions are forgotten when their time is over', async () => {
  const { repository, clock } = bench;
  const expiresAtMs = clock.wallMs() + 1_000;
  await repository.change(async () => {
    const value = { id: 'x', groupId: 'g', machineId: 'm1', kid: 'k', sha256: 's', expiresAtMs };
    const draft = new Draft().create(CHALLENGE, 'x', value).add('challenges', 'x', expiresAtMs);
    return Promise.resolve({ draft, answer: undefined });
  });
  const about = { machineId: 'm1', text: 'one', goodUntilMs: expiresAtMs };
  await takeOnce(repository, about);
  await retention.sweep();
  await expect(takeOnce(repository, about)).rejects.toMatchObject({ code: 'TokenInvalid' });
  await takeOnce(repository, { ...about, machineId: 'm2' });
  await expect(repository.get(CHALLENGE, 'x')).resolves.toMatchObject({ value: { id: 'x' } });
  clock.advance(1_001);
  await retention.sweep();
  await expect(repository.get(CHALLENGE, 'x')).resolves.toBeUndefined();
  await expect(repository.count('challenges')).resolves.toBe(0);
  await expect(repository.count('assertions')).resolves.toBe(0);
});
