import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Ending } from '../../../src/machine/executor/ending.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const own = { status: 'Succeeded', exitCode: 0, outputs: { a: 1 } } as const;

function ending(runSeconds = 100) {
  const clock = new FakeClock();
  const it = new Ending(clock, runSeconds);
  const heard: string[] = [];
  it.onAsked(mode => void heard.push(mode));
  return { clock, it, heard };
}

test('a stop turns into a kill when its grace is over', () => {
  const { clock, it, heard } = ending();
  it.ask('stop', 10);
  clock.advance(9_999);
  expect(heard).toEqual(['stop']);
  clock.advance(1);
  expect(heard).toEqual(['stop', 'kill']);
  expect(it.outcome(own)).toEqual({ status: 'Cancelled', exitCode: 0, outputs: { a: 1 } });
  it.close();
  expect(clock.pendingTasks).toBe(0);
});

test('what is over time is stopped and has timed out; what was cancelled before is cancelled', () => {
  const late = ending(5);
  late.clock.advance(5_000);
  expect(late.heard).toEqual(['stop']);
  expect(late.it.outcome(own).status).toBe('TimedOut');
  const cancelled = ending(5);
  cancelled.it.ask('stop', 60);
  cancelled.clock.advance(5_000);
  expect(cancelled.it.outcome(own).status).toBe('Cancelled');
  const asked = ending(5);
  asked.it.ask('safe-stop', 10);
  expect(asked.it.outcome(own)).toBe(own);
  asked.clock.advance(5_000);
  expect(asked.it.outcome(own).status).toBe('TimedOut');
});

test('a wish only gets stronger', () => {
  const wishes = fc.array(fc.constantFrom('safe-stop', 'stop', 'kill' as const));
  fc.assert(
    fc.property(wishes, asked => {
      const { it, heard } = ending();
      for (const mode of asked) it.ask(mode, 10);
      const order = ['safe-stop', 'stop', 'kill'];
      const ranks = heard.map(mode => order.indexOf(mode));
      expect(ranks).toEqual([...new Set(ranks)].toSorted((one, other) => one - other));
      const strongest = Math.max(-1, ...asked.map(mode => order.indexOf(mode)));
      expect(it.mode).toBe(order[strongest]);
    }),
  );
});
