import { pino, type DestinationStream, type LoggerOptions } from 'pino';
import type { Logger } from '../base/logger.ts';
import { censorField, censorText, REDACTED_PATHS } from './censor.ts';

/** The log of a whole process; what the layers get is the part of it that base/logger.ts describes. */
export interface ProcessLogger extends Logger {
  /** For the line before the process ends because of a bug. */
  fatal(fields: object, message: string): void;
  /** The same log with `bindings` in every line; `level` may let through what the parent keeps back. */
  child(bindings: object, options?: { readonly level?: LogLevel }): ProcessLogger;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'fatal';

export interface LogOptions {
  readonly nodeId: string;
  readonly version: string;
  readonly level: LogLevel;
  readonly format: 'json' | 'pretty';
  /** Whether a pretty log has colours. */
  readonly colour: boolean;
  /** Where lines go; standard output unless a test wants them. */
  readonly destination?: { write(line: string): void };
}

/**
 * Opens the log: one line per event, written at once. Level as its name, time in ISO 8601, and in each line
 * `service`, `node` and `version`. Without the package for it, `pretty` is plain JSON: the image leaves it out.
 */
export async function openLog(options: LogOptions): Promise<ProcessLogger> {
  const settings: LoggerOptions = {
    level: options.level,
    base: { service: 'halfway', node: options.nodeId, version: options.version },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: label => ({ level: label }) },
    redact: { paths: [...REDACTED_PATHS], censor: censorField },
    serializers: { err: describeError },
  };
  const destination = options.destination ?? pino.destination({ fd: 1, sync: true });
  const pretty = options.format === 'pretty' ? await prettyStream(options, destination) : undefined;
  return pino(settings, pretty ?? destination);
}

async function prettyStream(
  options: LogOptions,
  destination: DestinationStream,
): Promise<DestinationStream | undefined> {
  try {
    const { prettyFactory } = await import('pino-pretty');
    const format = prettyFactory({
      colorize: options.colour,
      ignore: 'pid,hostname,service,node,version',
      translateTime: 'SYS:HH:MM:ss.l',
      singleLine: true,
    });
    return { write: line => destination.write(format(line)) };
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND') {
      return undefined;
    }
    throw error;
  }
}

/** Messages of errors quote addresses and headers; their stacks begin with the message. */
function describeError(error: Error): unknown {
  const described = pino.stdSerializers.err(error);
  return {
    type: described.type,
    message: censorText(described.message),
    stack: censorText(described.stack),
  };
}
