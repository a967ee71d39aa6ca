import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    dir: 'test',
    pool: 'forks',
    // Most files start servers and clients of their own; some of the longest only wait.
    maxWorkers: 3,
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
});
