import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    dir: 'test',
    pool: 'forks',
    // Two files at a time: most files start servers and clients of their own.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
});
