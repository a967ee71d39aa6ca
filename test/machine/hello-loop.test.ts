import { describe, expect, test } from 'vitest';
import { JOB_ERRORS, type JobErrorCode } from '../../src/jobs/error-codes.ts';
import type { Hello } from '../../src/jobs/messages.ts';
import { ControlError, type ControlAnswer } from '../../src/machine/control-client.ts';
import { HelloLoop } from '../../src/machine/hello-loop.ts';
import { ServiceStatus } from '../../src/machine/service-status.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { MemoryLog } from '../support/relay.ts';
import { until } from '../support/within.ts';

const HELLO: Hello = {
  v: 1,
  type: 'hello',
  machineId: 'm1',
  installId: 'i1',
  instance: 'p1',
  agentVersion: '1.0.0',
  os: 'linux',
  capacity: { unattended: 1, attended: 0 },
  sessions: [],
  labels: {},
  keys: [],
  clock: '2026-01-01T00:00:00.000Z',
  journal: [],
};

const TAKEN = { v: 1, serverTime: '', clockSkewMs: 5, standings: [], helloEverySeconds: 30 };

function bench(answer: () => object) {
  const clock = new FakeClock();
  const log = new MemoryLog();
  const status = new ServiceStatus(clock);
  const standings: unknown[] = [];
  const keys: unknown[] = [];
  const said: unknown[] = [];
  const loop = new HelloLoop({
    access: {
      call: async ({ path, body }): Promise<ControlAnswer> => {
        said.push([path, body]);
        return Promise.resolve({ status: 200, body: answer(), etag: undefined });
      },
    },
    door: { standings: told => void standings.push(told) },
    status,
    clock,
    log,
    hello: () => HELLO,
    onTaken: async published => {
      keys.push(published);
      return Promise.resolve();
    },
    random: () => 0,
  });
  const stop = new AbortController();
  const ended = loop.run(stop.signal);
  const times = (count: number): Promise<void> =>
    until(`${count} hellos and a pause`, () => said.length === count && clock.pendingTasks === 1);
  return {
    clock,
    log,
    status,
    standings,
    keys,
    said,
    loop,
    ended,
    times,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await ended.catch(() => undefined);
    },
  };
}

function refusal(code: JobErrorCode): () => never {
  return () => {
    throw new ControlError(code, JOB_ERRORS[code].text);
  };
}

describe('HelloLoop', () => {
  test('speaks as often as it is told, and hands on what comes back', async () => {
    const standing = { runId: 'r1', standing: 'lost' };
    await using it = bench(() => ({ ...TAKEN, standings: [standing], dispatchKeys: [] }));
    await it.times(1);
    expect(it.said[0]).toEqual(['/agent/hello', HELLO]);
    expect(it.standings).toEqual([[standing]]);
    expect(it.keys).toEqual([[]]);
    it.clock.advance(29_999);
    expect(it.said).toHaveLength(1);
    it.clock.advance(1);
    await it.times(2);
    expect(it.status.parts().hello).toMatchObject({ clockSkewMs: 5, problem: undefined });
  });

  test('hurry() speaks at once', async () => {
    await using it = bench(() => TAKEN);
    await it.times(1);
    it.loop.hurry();
    await it.times(2);
  });

  test('ends when the machine is not registered any more, with what to do', async () => {
    await using it = bench(refusal('MachineNotFound'));
    await expect(it.ended).rejects.toMatchObject({
      fault: 'NotRegistered',
      code: 'MachineNotFound',
    });
    await expect(it.ended).rejects.toThrow(/register --force/);
  });

  test('goes on, a minute apart, while two computers use one registration, and says so', async () => {
    await using it = bench(refusal('MachineIdentityConflict'));
    await it.times(1);
    expect(it.log.lines.join()).toContain('another computer uses the registration of this one');
    expect(it.status.parts().hello.problem).toContain('Two computers use one registration');
    it.clock.advance(59_999);
    expect(it.said).toHaveLength(1);
    it.clock.advance(1);
    await it.times(2);
  });

  test('waits longer with each failure, and keeps to what the control plane asks for', async () => {
    let error = new ControlError('Unreachable', 'nobody there');
    await using it = bench(() => {
      throw error;
    });
    await it.times(1);
    it.clock.advance(1_000);
    await it.times(2);
    error = new ControlError('StoreUnavailable', 'later', { retryAfterMs: 9_000 });
    it.clock.advance(1_000);
    await it.times(3);
    it.clock.advance(8_999);
    expect(it.said).toHaveLength(3);
    it.clock.advance(1);
    await it.times(4);
    expect(it.status.parts().lastErrors.map(({ why }) => why)).toContain('nobody there');
  });

  test('warns of a clock that is far off', async () => {
    await using it = bench(() => ({ ...TAKEN, clockSkewMs: -3_600_000 }));
    await it.times(1);
    expect(it.log.lines.join()).toContain("this computer's clock is off");
    expect(it.status.parts().lastErrors[0]?.why).toContain('60 min 0 s behind');
  });
});
