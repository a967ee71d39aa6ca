import { randomUUID } from 'node:crypto';
import { basename } from 'node:path';
import type { DispatchClient } from '../../dispatch-client/dispatch-client.ts';
import type { ConnectionView } from '../../dispatch-client/representations.ts';
import { EXIT, usageError, type ExitCode } from '../command-error.ts';
import { printJson, writeLine, type CommandContext } from '../context.ts';
import { parseDuration } from '../duration.ts';
import { withDispatch } from './open-dispatch.ts';
import { findRecord } from './find-record.ts';
import { followRun, outcomeOf } from './run-follow.ts';
import {
  objectIn,
  pairsIn,
  plainInputs,
  sealedInputs,
  secretInputs,
  type InputOptions,
} from './run-inputs.ts';

import { trustedKey, type TrustOptions } from './trusted-key.ts';

/** What a run is to be, without what is secret. */
export interface RunRequestOptions extends TrustOptions, InputOptions {
  readonly connection: string;
  readonly job?: string;
  readonly ref?: string;
  readonly mode?: string;
  readonly priority?: string;
  readonly timeout?: string;
  readonly queueTimeout?: string;
  readonly whenOffline?: string;
  readonly onLost?: string;
  readonly attempts?: string;
  readonly label?: readonly string[];
  readonly correlationId?: string;
  readonly callbackUrl?: string;
}

export interface RunStartOptions extends RunRequestOptions {
  readonly parent?: string;
  readonly idempotencyKey?: string;
  readonly wait?: boolean;
  readonly follow?: boolean;
}

const REF_CHARS_MAX = 256;

/** `halfway run start`: queues a run; with --wait or --follow the exit code is that of its end. */
export async function runRunStart(
  command: readonly string[],
  options: RunStartOptions,
  context: CommandContext,
): Promise<ExitCode> {
  if (options.follow === true && options.json === true) {
    throw usageError('With --follow standard output is the log; give --wait --json for the run');
  }
  if (options.idempotencyKey !== undefined && options.secretInput !== undefined) {
    throw usageError(
      'Secret inputs are sealed anew each time, so that no request is the same as another: leave out --idempotency-key',
    );
  }
  const settings = await requestOf(command, options, context);
  const secrets = await secretInputs(options, context);
  return withDispatch(options, context, async client => {
    const connection = await findRecord(client.connections, options.connection, 'connection');
    const request = {
      ...runOf(connection, settings),
      ...defined({ parentRunId: options.parent }),
      ...(await sealedFor(client, connection, secrets, { options, context })),
    };
    const { idempotencyKey } = options;
    const run = await client.runs.create(request, { idempotencyKey });
    if (options.wait !== true && options.follow !== true) {
      if (options.json === true) await printJson(run, context);
      else await writeLine(context.stdout, run.id);
      return EXIT.ok;
    }
    if (options.quiet !== true) context.stderr.write(`Queued ${run.id}\n`);
    const ended = await followRun(client, run.id, options, context);
    if (ended === undefined) return EXIT.failed;
    if (options.json === true) await printJson(ended, context);
    return outcomeOf(ended, options, context);
  });
}

/** The secret inputs sealed to the target, with the id of the run that they are bound to; nothing without any. */
async function sealedFor(
  client: DispatchClient,
  { target: { kind, id: targetId } }: ConnectionView,
  secrets: Readonly<Record<string, string>>,
  { options, context }: { readonly options: TrustOptions; readonly context: CommandContext },
): Promise<object> {
  if (Object.keys(secrets).length === 0) return {};
  const { name } = await (kind === 'machine' ? client.machines : client.groups).get(targetId);
  const key = await trustedKey(client, { kind, id: targetId, name }, options, context);
  const id = randomUUID();
  return { id, sealedInputs: await sealedInputs(key, id, secrets) };
}

/** A request for a run with a connection. What has no account runs with whoever is signed in. */
export function runOf({ id, kind }: ConnectionView, settings: object): object {
  const mode = kind === 'none' ? 'attended' : 'unattended';
  return { connectionId: id, mode, ...settings };
}

/** What of a run's request is known without the server. Throws a usage error. */
export async function requestOf(
  command: readonly string[],
  options: RunRequestOptions,
  context: CommandContext,
): Promise<object> {
  return {
    job: await jobOf(command, options, context),
    inputs: await plainInputs(options, context),
    ...defined({
      mode: options.mode,
      priority: options.priority,
      timeoutSeconds: secondsOf(options.timeout, '--timeout'),
      queueTimeoutSeconds: secondsOf(options.queueTimeout, '--queue-timeout'),
      whenOffline: options.whenOffline,
      onLost: options.onLost,
      maxAttempts: countOf(options.attempts, '--attempts'),
      labels: pairsIn(options.label, '--label'),
      correlationId: options.correlationId,
      callbackUrl: options.callbackUrl,
    }),
  };
}

async function jobOf(
  command: readonly string[],
  { job, ref }: RunRequestOptions,
  context: CommandContext,
): Promise<object> {
  if (job !== undefined) {
    if (command.length > 0) throw usageError('Give --job or a program, not both');
    return objectIn(job, '--job', context);
  }
  const [program] = command;
  if (program === undefined) {
    throw usageError('Cannot tell what to run: give `-- PROGRAM [ARGUMENT …]`, or --job FILE');
  }
  const shown = ref ?? basename(program).slice(0, REF_CHARS_MAX);
  return { ref: shown === '' ? program.slice(0, REF_CHARS_MAX) : shown, kind: 'command', command };
}

/** A duration option in whole seconds. */
export function secondsOf(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined;
  const ms = parseDuration(text);
  if (ms !== undefined) return ms / 1_000;
  throw usageError(`Cannot read ${option} "${text}": it must be such as 90s, 30m, 2h or 7d`);
}

export function countOf(text: string | undefined, option: string): number | undefined {
  if (text === undefined || /^\d{1,9}$/.test(text)) return text === undefined ? text : Number(text);
  throw usageError(`Cannot read ${option} "${text}": it must be a whole number`);
}

/** Without the members that are undefined. */
export function defined(members: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}
