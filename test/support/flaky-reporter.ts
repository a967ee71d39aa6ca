import { appendFileSync } from 'node:fs';
import type { Reporter, TestCase } from 'vitest/node';

/**
 * Writes down each test that needed its second try, so that `retry` hides nothing: a line with its file, its name and
 * what went wrong at first, added to the file that `FLAKY_REPORT` names as soon as it is known. Without that variable
 * the lines go to standard output. A test that failed both times has failed, and is not here.
 */
export default class FlakyReporter implements Reporter {
  onTestCaseResult(test: TestCase): void {
    if (test.diagnostic()?.flaky !== true) return;
    const [error] = test.result().errors ?? [];
    const [why = ''] = (error?.message ?? '').split('\n');
    const line = `flaky: ${test.module.relativeModuleId} > ${test.fullName}: ${why}\n`;
    const { FLAKY_REPORT: file } = process.env;
    if (file === undefined) process.stdout.write(line);
    else appendFileSync(file, line);
  }
}
