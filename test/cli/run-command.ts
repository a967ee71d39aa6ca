import { PassThrough } from 'node:stream';
import { systemClock, type Clock } from '../../src/base/clock.ts';
import type { CommandContext, SignalName } from '../../src/cli/context.ts';
import { runCli } from '../../src/cli/program.ts';
import { openLog } from '../../src/observability/log.ts';
import { until, within } from '../support/within.ts';

/** A command that runs in this process, with streams and signals of its own. */
export interface RunningCommand {
  readonly stdin: PassThrough;
  /** All it has written so far. */
  readonly out: () => string;
  readonly outBytes: () => Buffer;
  readonly err: () => string;
  /** Resolves when `text` has been written to either. */
  saw(text: string): Promise<void>;
  signal(name: SignalName): void;
  readonly exitCode: Promise<number>;
  /** Codes with which it asked to end at once. */
  readonly exits: readonly number[];
  /** Ends it by SIGTERM, if it still runs. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface CommandOptions {
  readonly env?: CommandContext['env'];
  /** Standard input to its end; without it the test writes itself. */
  readonly input?: string;
  readonly clock?: Clock;
  readonly isTerminal?: boolean;
}

export function runCommand(argv: readonly string[], options: CommandOptions = {}): RunningCommand {
  const stdin = new PassThrough();
  if (options.input !== undefined) stdin.end(options.input);
  const [stdout, stderr] = [sink(), sink()];
  const reactions: { readonly names: readonly SignalName[]; react: (name: SignalName) => void }[] =
    [];
  const exits: number[] = [];
  const exitCode = runCli(argv, {
    env: options.env ?? {},
    stdin,
    stdout: Object.assign(stdout.stream, { isTTY: options.isTerminal === true }),
    stderr: stderr.stream,
    clock: options.clock ?? systemClock,
    version: '1.2.3',
    invocation: 'halfway',
    openLog: (config, colour) =>
      openLog({
        nodeId: config.nodeId,
        version: '1.2.3',
        level: config.logLevel,
        format: config.logFormat,
        colour,
        destination: { write: line => stdout.stream.write(line) },
      }),
    onSignal: (names, react) => {
      const reaction = { names, react };
      reactions.push(reaction);
      return () => void reactions.splice(reactions.indexOf(reaction), 1);
    },
    onBug: () => undefined,
    exit: code => exits.push(code),
  });
  let isRunning = true;
  const ended = exitCode.finally(() => {
    isRunning = false;
  });
  const signal = (name: SignalName): void => {
    for (const { react } of reactions.filter(({ names }) => names.includes(name))) react(name);
  };
  return {
    stdin,
    out: () => stdout.bytes().toString('utf8'),
    outBytes: stdout.bytes,
    err: () => stderr.bytes().toString('utf8'),
    saw: async text => {
      const isThere = (): boolean =>
        stdout.bytes().includes(text) || stderr.bytes().includes(text) || !isRunning;
      await until(`"${text}" from ${argv[0]}`, isThere);
      if (stdout.bytes().includes(text) || stderr.bytes().includes(text)) return;
      throw new Error(`${argv[0]} ended without "${text}": ${stderr.bytes().toString('utf8')}`);
    },
    signal,
    exitCode: ended,
    exits,
    [Symbol.asyncDispose]: async () => {
      if (isRunning) signal('SIGTERM');
      await within(`the end of ${argv[0]}`, ended);
    },
  };
}

/** Runs a command to its end. */
export async function commandResult(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<{ readonly exitCode: number; readonly out: string; readonly err: string }> {
  const command = runCommand(argv, options);
  const exitCode = await within(`the end of ${argv[0]}`, command.exitCode, 20_000);
  return { exitCode, out: command.out(), err: command.err() };
}

function sink(): { readonly stream: PassThrough; readonly bytes: () => Buffer } {
  const chunks: Buffer[] = [];
  const stream = new PassThrough();
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return { stream, bytes: () => Buffer.concat(chunks) };
}
