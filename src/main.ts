#!/usr/bin/env node
import { relative } from 'node:path';
import { systemClock } from './base/clock.ts';
import { runCli } from './cli/program.ts';
import { VERSION } from './version.ts';

// Hands the real world to the command line: streams, variables, signals, the log.

// A reader that has seen enough (`halfway request … | head`) is no fault of this program.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    process.exit(error.code === 'EPIPE' ? 0 : 1);
  });
}

const exitCode = await runCli(process.argv.slice(2), {
  env: process.env,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  clock: systemClock,
  version: VERSION,
  invocation: invocation(process.argv[1] ?? ''),
  openLog: async (config, colour) => {
    const { openLog } = await import('./observability/log.ts');
    const { nodeId, logLevel: level, logFormat: format } = config;
    return openLog({ nodeId, level, format, colour, version: VERSION });
  },
  onSignal: (names, react) => {
    for (const name of names) process.on(name, react);
    return () => {
      for (const name of names) process.off(name, react);
    };
  },
  onBug: report => {
    process.on('uncaughtException', bug => {
      report(bug);
      process.exit(1);
    });
  },
  exit: code => process.exit(code),
});
process.exit(exitCode);

/** How to call this program again from where one stands. */
function invocation(script: string): string {
  const path = relative(process.cwd(), script);
  if (path.startsWith('..')) return 'halfway';
  if (/(^|\/)main\.js$/.test(path)) return `node ${path}`;
  return /(^|\/)main\.ts$/.test(path) ? `npx tsx ${path}` : 'halfway';
}
