import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { Result } from '../jobs/messages.ts';
import { failed } from './executor/messages.ts';
import { ReportError, type RunReporter } from './ports.ts';
import { pause, retryDelayMs } from './retry.ts';

/**
 * Reports a result until it is acknowledged, or not wanted any more. One that the control plane cannot
 * take as it is (its outputs, as a rule) is replaced by one that says so. Resolves with whether it is done
 * with; false: the signal was aborted before.
 */
export async function reportResult(
  result: Result,
  options: {
    readonly reporter: Pick<RunReporter, 'result'>;
    readonly clock: Clock;
    readonly log: Logger;
    readonly signal: AbortSignal;
    /** Between two tries; another than `retryDelayMs` for tests. */
    readonly delayMs?: (failures: number) => number;
  },
): Promise<boolean> {
  const { reporter, clock, log, signal, delayMs = retryDelayMs } = options;
  const { runId, attempt, fence } = result;
  let told = result;
  let failures = 0;
  while (!signal.aborted) {
    try {
      await reporter.result(told);
      return true;
    } catch (error) {
      if (!(error instanceof ReportError)) throw error;
      const { code, isFinal } = error;
      if (isFinal && (code === 'LeaseLost' || told !== result)) {
        log.warn({ runId, fence, code }, 'a result is not wanted');
        return true;
      }
      if (isFinal) {
        log.error({ runId, fence, code }, 'a result was refused');
        const message = `The control plane does not take the result of the job: ${code}`;
        told = {
          v: 1,
          type: 'result',
          runId,
          attempt,
          fence,
          ...failed('DesktopFlowMalformedMachineResponse', message),
        };
        continue;
      }
      failures += 1;
      await pause(clock, delayMs(failures), signal);
    }
  }
  return false;
}
