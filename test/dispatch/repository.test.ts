import * as v from 'valibot';
import { expect, test } from 'vitest';
import { Problem } from '../../src/dispatch/problem.ts';
import { Draft, Repository, UnreadableRecord, type Kind } from '../../src/dispatch/repository.ts';
import { openMemoryDispatchStore } from '../../src/store/memory-dispatch-store.ts';

interface Counter {
  readonly count: number;
}
const COUNTER: Kind<Counter> = { name: 'counter', schema: v.object({ count: v.number() }) };

function setUp() {
  const store = openMemoryDispatchStore();
  return { store, repository: new Repository(store, 'dev') };
}

function increase(repository: Repository): Promise<number> {
  return repository.change(async () => {
    const before = await repository.get(COUNTER, 'a');
    const count = (before?.value.count ?? 0) + 1;
    const draft = new Draft();
    if (before === undefined) draft.create(COUNTER, 'a', { count });
    else draft.replace(COUNTER, before, { count });
    return { draft, answer: count };
  });
}

test('change() decides anew when somebody else was faster, so that nothing is lost', async () => {
  const { repository } = setUp();
  const counts = await Promise.all(Array.from({ length: 15 }, () => increase(repository)));
  expect(counts.toSorted((one, other) => one - other)).toEqual(
    Array.from({ length: 15 }, (_count, index) => index + 1),
  );
});

test('change() throws the problem of the condition that does not hold, and writes nothing', async () => {
  const { repository } = setUp();
  await increase(repository);
  const full = new Problem('QueueFull');
  const change = repository.change(async () => {
    const draft = new Draft()
      .create(COUNTER, 'b', { count: 1 })
      .add('q', 'b', 1)
      .below('q', 0, full);
    return Promise.resolve({ draft, answer: undefined });
  });
  await expect(change).rejects.toBe(full);
  await expect(repository.get(COUNTER, 'b')).resolves.toBeUndefined();
  await expect(repository.count('q')).resolves.toBe(0);
});

test('change() gives up with VersionConflict when it never comes through', async () => {
  const { repository } = setUp();
  const change = repository.change(async () => {
    await increase(repository);
    const draft = new Draft().create(COUNTER, 'a', { count: 0 });
    return { draft, answer: undefined };
  });
  await expect(change).rejects.toMatchObject({ code: 'VersionConflict', httpStatus: 409 });
});

test('change() with an empty draft writes nothing and answers', async () => {
  const { repository } = setUp();
  const answer = repository.change(async () =>
    Promise.resolve({ draft: new Draft(), answer: 'as it is' }),
  );
  await expect(answer).resolves.toBe('as it is');
});

test.each(['{"count":"many"}', '{}', 'null'])('get() does not take %s for a record', async text => {
  const { store, repository } = setUp();
  await store.step('dev', { conditions: [], puts: [{ key: { kind: 'counter', id: 'a' }, text }] });
  await expect(repository.get(COUNTER, 'a')).rejects.toThrow(UnreadableRecord);
});

test('getMany() leaves out what is not there and keeps the order', async () => {
  const { repository } = setUp();
  await increase(repository);
  const found = await repository.getMany(COUNTER, ['b', 'a']);
  expect(found).toEqual([{ id: 'a', version: 1, value: { count: 1 } }]);
});
