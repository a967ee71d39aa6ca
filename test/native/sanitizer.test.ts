import { execFileSync, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
/** The files that use the addon. Named one by one: this one among them would start itself without end. */
const NAMES = [
  'attach',
  'churn',
  'delivered',
  'flow',
  'gathering',
  'hand-over',
  'plane',
  'protocol-errors',
  'raw',
  'soak',
  'splice',
  'transform',
];
/** In CI tests are tried twice here as well, and those that were are to be known. */
const FLAKY_REPORTER = './test/support/flaky-reporter.ts';
const SUITE = NAMES.map(name => `test/native/${name}.test.ts`);

interface Run {
  readonly exitCode: number | null;
  readonly output: string;
}

async function run(args: readonly string[], environment: NodeJS.ProcessEnv): Promise<Run> {
  const child = spawn(process.execPath, args, {
    cwd: ROOT,
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', chunk => (output += String(chunk)));
  child.stderr.on('data', chunk => (output += String(chunk)));
  return new Promise(resolve => {
    child.on('close', exitCode => resolve({ exitCode, output }));
  });
}

test(
  'the suite of this folder, with shorter soaks, passes under the address and undefined-behaviour sanitizers',
  { timeout: 240_000 },
  async () => {
    const built = await run(['scripts/build-native.mjs', '--sanitize', '--required'], process.env);
    expect(built).toEqual({ exitCode: 0, output: '' });

    const environment = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST')),
    );
    const library = execFileSync('g++', ['-print-file-name=libasan.so'], { encoding: 'utf8' });
    const vitest = dirname(createRequire(import.meta.url).resolve('vitest/package.json'));
    const reporters = ['--reporter=default', `--reporter=${FLAKY_REPORTER}`];
    const suite = await run([join(vitest, 'vitest.mjs'), 'run', ...reporters, ...SUITE], {
      ...environment,
      // Node itself is not built with the sanitizers, so their library must be there first; and it leaks on exit.
      LD_PRELOAD: library.trim(),
      ASAN_OPTIONS: 'detect_leaks=0:quarantine_size_mb=16',
      UBSAN_OPTIONS: 'print_stacktrace=1',
      HALFWAY_NATIVE_BUILD: 'asan',
      HALFWAY_SOAK_MESSAGES: '8000',
      HALFWAY_CHURN_PAIRS: '1000',
      NO_COLOR: '1',
    });
    expect(suite.output).not.toMatch(/AddressSanitizer|runtime error/);
    expect(suite.output).toMatch(new RegExp(`Test Files +${SUITE.length} passed`));
    expect(suite.exitCode).toBe(0);
  },
);
