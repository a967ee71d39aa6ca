import type { Readable, Writable } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { Config } from '../config/options.ts';

/** What a command has of the world around it; main.ts gives the real one. */
export interface CommandContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: Readable;
  readonly stdout: Terminal;
  readonly stderr: Terminal;
  readonly clock: Clock;
  readonly version: string;
  /** How this program was called, for lines to paste: `halfway`, or `node dist/main.js`. */
  readonly invocation: string;
  readonly openLog: (config: LogConfig, colour: boolean) => Promise<CommandLog>;
  /** Calls `react` for each signal of these names until the returned function is called. */
  readonly onSignal: (
    names: readonly SignalName[],
    react: (name: SignalName) => void,
  ) => () => void;
  /** Calls `report` for what nobody caught; the program is to end after it. */
  readonly onBug: (report: (bug: unknown) => void) => void;
  /** Ends the program at once. */
  readonly exit: (code: number) => void;
}

/** What a log is opened by. */
export type LogConfig = Pick<Config, 'nodeId' | 'logLevel' | 'logFormat'>;

export type SignalName = 'SIGTERM' | 'SIGINT' | 'SIGHUP';

export type Terminal = Writable & { readonly isTTY?: boolean };

/** The log of observability/log.ts, as the commands use it. */
export interface CommandLog extends Logger {
  fatal(fields: object, message: string): void;
  child(bindings: object, options?: { readonly level?: Config['logLevel'] }): CommandLog;
}

/** Whether to colour what goes to `terminal`. Source: no-color.org. */
export function wantsColour(context: CommandContext, terminal: Terminal): boolean {
  return terminal.isTTY === true && (context.env['NO_COLOR'] ?? '') === '';
}

/** Writes a line and waits only when the reader is slow. */
export async function writeLine(terminal: Terminal, line: string): Promise<void> {
  await write(terminal, `${line}\n`);
}

/** For programs: indented, so that people can read it too. */
export async function printJson(value: unknown, { stdout }: CommandContext): Promise<void> {
  await writeLine(stdout, JSON.stringify(value, undefined, 2));
}

export async function write(terminal: Terminal, chunk: string | Uint8Array): Promise<void> {
  if (terminal.write(chunk)) return;
  await new Promise<void>(resolve => {
    terminal.once('drain', resolve);
  });
}

/** All of standard input as text. */
export async function readAll(stdin: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stdin) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString('utf8');
}
