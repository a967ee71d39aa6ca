import { beforeEach, expect, test } from 'vitest';
import { RENEW_INTERVAL_MS, STARTED_LEASE_MS } from '../../src/jobs/limits.ts';
import type { Renewed } from '../../src/jobs/messages.ts';
import { ReportError } from '../../src/machine/ports.ts';
import { RunLease } from '../../src/machine/run-lease.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { settled } from '../support/fake-machines.ts';
import { silentLogger } from '../support/silent-logger.ts';

const HELD: Renewed = { v: 1, type: 'renewed', leaseUntil: '2030-01-01T00:00:00Z', cancel: null };

let clock: FakeClock;
let answer: () => Renewed;
let renewals: boolean[];
let said: string[];
let lease: RunLease;
beforeEach(() => {
  clock = new FakeClock();
  answer = () => HELD;
  renewals = [];
  said = [];
  lease = new RunLease(
    { runId: 'a', attempt: 1, fence: 1 },
    {
      reporter: {
        renew: async (_about, isLaunched) => {
          renewals.push(isLaunched);
          return Promise.resolve(answer());
        },
      },
      clock,
      log: silentLogger,
      observer: {
        onCancel: ({ mode }) => void said.push(mode),
        onLost: () => void said.push('lost'),
      },
      askStandings: () => void said.push('ask'),
      random: () => 0.5,
    },
  );
});

const unreachable = (): Renewed => {
  throw new ReportError('Unreachable', false);
};
const leaseLost = (): Renewed => {
  throw new ReportError('LeaseLost', true);
};

async function pass(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 1_000) {
    clock.advance(Math.min(left, 1_000));
    await settled(1);
  }
}

test('first() waits for an answer while the lease may hold, and not for longer', async () => {
  answer = unreachable;
  const signal = new AbortController().signal;
  const first = lease.first(signal);
  await pass(20_000);
  expect(renewals.length).toBeGreaterThan(3);
  answer = () => HELD;
  await pass(6_000);
  await expect(first).resolves.toBe('held');
  answer = unreachable;
  const late = lease.first(signal);
  await pass(STARTED_LEASE_MS);
  await expect(late).resolves.toBe('late');
  answer = leaseLost;
  await expect(lease.first(signal)).resolves.toBe('lost');
});

test('keep() renews every half minute, at once when launched, and carries a cancel', async () => {
  lease.keep();
  await pass(RENEW_INTERVAL_MS);
  lease.launched();
  await settled();
  expect(renewals).toEqual([false, true]);
  answer = () => ({ ...HELD, cancel: { mode: 'stop', graceSeconds: 10 } });
  await pass(RENEW_INTERVAL_MS);
  expect(said).toEqual(['stop']);
  lease.end();
  await pass(10 * RENEW_INTERVAL_MS);
  expect(renewals).toHaveLength(3);
  expect(clock.pendingTasks).toBe(0);
});

test('a lease that is lost before the launch is lost', async () => {
  lease.keep();
  answer = leaseLost;
  await pass(RENEW_INTERVAL_MS);
  expect(said).toEqual(['lost']);
});

test('a job goes on through silence, and after it when its result is still wanted', async () => {
  lease.keep();
  lease.launched();
  answer = unreachable;
  await pass(600_000);
  expect(said).toEqual([]);
  answer = leaseLost;
  await pass(10_000);
  expect(said).toContain('ask');
  for (let count = 0; count < 10; count += 1) {
    lease.told('current');
    await pass(30_000);
  }
  expect(said).not.toContain('lost');
});

test('a job is given up when its lease is lost and the hello says that somebody else has the run', async () => {
  lease.keep();
  lease.launched();
  // About the attempt before this one, while this one is held.
  lease.told('lost');
  await settled();
  expect(said).toEqual([]);
  answer = leaseLost;
  await pass(RENEW_INTERVAL_MS);
  lease.told('lost');
  await settled();
  expect(said.at(-1)).toBe('lost');
});

test('a job is given up when its lease is lost and nobody says for a minute what to think of it', async () => {
  lease.keep();
  lease.launched();
  await settled();
  answer = leaseLost;
  await pass(RENEW_INTERVAL_MS + 50_000);
  expect(said).not.toContain('lost');
  await pass(20_000);
  expect(said.at(-1)).toBe('lost');
});
