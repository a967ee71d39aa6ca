import { expect, test } from 'vitest';
import type { Result } from '../../src/jobs/messages.ts';
import { ReportError } from '../../src/machine/ports.ts';
import { reportResult } from '../../src/machine/report-result.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../support/silent-logger.ts';

const result: Result = {
  v: 1,
  type: 'result',
  runId: 'a',
  attempt: 1,
  fence: 1,
  status: 'Succeeded',
  outputs: { a: 1 },
};

async function told(
  answers: readonly (ReportError | undefined)[],
  signal = AbortSignal.timeout(5_000),
) {
  const results: Result[] = [];
  const isDone = await reportResult(result, {
    reporter: {
      result: async one => {
        const answer = answers[results.length];
        results.push(one);
        if (answer !== undefined) throw answer;
        return Promise.resolve();
      },
    },
    clock: systemClock,
    log: silentLogger,
    signal,
    delayMs: () => 1,
  });
  return { isDone, results };
}

const unreachable = new ReportError('Unreachable', false);

test('reportResult() says it until it is acknowledged', async () => {
  const { isDone, results } = await told([unreachable, unreachable, undefined]);
  expect(isDone).toBe(true);
  expect(results).toEqual([result, result, result]);
});

test('reportResult() gives up what nobody wants', async () => {
  const { isDone, results } = await told([new ReportError('LeaseLost', true)]);
  expect([isDone, results.length]).toEqual([true, 1]);
});

test('reportResult() says that the result could not be taken, where it could not', async () => {
  const { isDone, results } = await told([
    new ReportError('RequestMalformed', true),
    unreachable,
    undefined,
  ]);
  expect(isDone).toBe(true);
  expect(results.map(({ status }) => status)).toEqual(['Succeeded', 'Failed', 'Failed']);
  expect(results[1]).toMatchObject({
    fence: 1,
    error: { code: 'DesktopFlowMalformedMachineResponse' },
  });
  expect(results[1]).not.toHaveProperty('outputs');
});

test('reportResult() leaves it for the next process when the service ends', async () => {
  const { isDone } = await told([], AbortSignal.abort());
  expect(isDone).toBe(false);
});
