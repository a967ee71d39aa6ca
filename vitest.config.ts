import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    dir: 'test',
    pool: 'forks',
    // Most files start servers and clients of their own; some of the longest only wait.
    maxWorkers: 3,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // Thousands of tests with real sockets, processes and clocks share what CI has of a machine, and one that was kept
    // waiting too long once would make all of them worthless. Who fails twice has failed; who needed the second try is
    // named by .ci/run (test/support/flaky-reporter.ts), and is to be put right. At a desk nothing is tried again.
    retry: process.env['CI'] === undefined ? 0 : 1,
  },
});
