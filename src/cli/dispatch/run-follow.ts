import type { DispatchClient } from '../../dispatch-client/dispatch-client.ts';
import { DispatchError } from '../../dispatch-client/dispatch-error.ts';
import type { RunEvent, RunView } from '../../dispatch-client/representations.ts';
import { EXIT, type ExitCode } from '../command-error.ts';
import { write, type CommandContext } from '../context.ts';
import { plain } from './show.ts';

export interface FollowOptions {
  /** Writes the log to standard output as it comes. */
  readonly follow?: boolean;
  readonly quiet?: boolean;
}

/**
 * Waits for the end of a run, telling what happens to it on standard error. Undefined after SIGINT or SIGTERM: then
 * nothing is asked of the run, which goes on.
 */
export async function followRun(
  client: DispatchClient,
  id: string,
  options: FollowOptions,
  context: CommandContext,
): Promise<RunView | undefined> {
  const stop = new AbortController();
  const ignore = context.onSignal(['SIGINT', 'SIGTERM'], () => stop.abort());
  const { signal } = stop;
  try {
    const told = Promise.all([
      options.quiet === true ? undefined : tellEvents(client, id, context, signal),
      options.follow === true ? writeLog(client, id, context, { follow: true, signal }) : undefined,
    ]);
    // Whatever fails first ends the other ones.
    told.catch(() => stop.abort());
    await told;
    return await client.runs.ended(id, signal);
  } catch (error) {
    if (!(error instanceof DispatchError) || error.code !== 'Aborted') throw error;
    context.stderr.write(
      `\nThe run goes on. To see more of it: halfway run logs -f ${id}\nTo end it: halfway run cancel ${id}\n`,
    );
    return undefined;
  } finally {
    ignore();
    stop.abort();
  }
}

/** The bytes of a run's log, to standard output; where another attempt begins is said on standard error. */
export async function writeLog(
  client: DispatchClient,
  id: string,
  { stdout, stderr }: CommandContext,
  watching: { readonly follow: boolean; readonly signal?: AbortSignal },
): Promise<void> {
  let attempt: number | undefined;
  for await (const piece of client.runs.logs(id, watching)) {
    if (attempt !== undefined && piece.attempt !== attempt) {
      stderr.write(`--- attempt ${piece.attempt} ---\n`);
    }
    attempt = piece.attempt;
    await write(stdout, piece.bytes);
  }
}

async function tellEvents(
  client: DispatchClient,
  id: string,
  { stderr }: CommandContext,
  signal: AbortSignal,
): Promise<void> {
  const names = new Map<string, string>();
  for await (const event of client.runs.events(id, { follow: true, signal })) {
    // What was done by whoever watches is known, and the end is told with its reason.
    if (SILENT.has(event.type)) continue;
    const { machineId } = event;
    if (machineId !== undefined && !names.has(machineId)) {
      names.set(machineId, await nameOf(client, machineId));
    }
    stderr.write(`${eventText(event, names.get(machineId ?? '') ?? '')}\n`);
  }
}

const SILENT: ReadonlySet<string> = new Set([
  'queued',
  'preChecks',
  'completed',
  'completedWithError',
]);

async function nameOf(client: DispatchClient, machineId: string): Promise<string> {
  try {
    return (await client.machines.get(machineId)).name;
  } catch (error) {
    // It may be gone; its id is a name as well.
    if (error instanceof DispatchError && error.code !== 'Aborted') return machineId;
    throw error;
  }
}

const WORDS: Readonly<Record<string, string>> = {
  queued: 'Queued',
  preChecks: 'Accepted',
  completed: 'Completed',
  completedWithError: 'Completed with an error',
  machineSelected: 'Offered to',
  machineReturnedError: 'Not taken',
  returnedToQueue: 'Back in the queue',
  started: 'Started',
  running: 'Running',
  priorityChanged: 'Priority changed',
  movedToTop: 'Moved to the top of the queue',
  movedBack: 'Moved back in the queue',
  cancelRequested: 'Cancel requested',
  timeLimitReached: 'Time limit reached',
  resultRecovered: 'Result recovered',
};

/** One line on what happened to a run. */
export function eventText(event: RunEvent, machine: string): string {
  const { type, code, message, by } = event;
  const about = [
    WORDS[type] ?? type,
    ...(machine === '' ? [] : [type === 'machineSelected' ? machine : `by ${machine}`]),
    ...(by === undefined || machine !== '' ? [] : [`by ${by}`]),
  ].join(' ');
  const why = [code, message].filter(part => part !== undefined).join(': ');
  return plain(why === '' ? about : `${about}: ${why}`);
}

/** Says how a run ended; the exit code is 0 for one that succeeded. */
export function outcomeOf(
  run: RunView,
  { quiet }: FollowOptions,
  { stderr }: CommandContext,
): ExitCode {
  if (run.state === 'Succeeded') {
    if (quiet !== true) stderr.write('Succeeded\n');
    return EXIT.ok;
  }
  stderr.write(`halfway: the run ended as ${run.state}${faultText(run)}\n`);
  return EXIT.failed;
}

/** `: CODE: message`, of a run that has a fault; the exit code of its program, if it had one. */
export function faultText({ fault, exitCode }: RunView): string {
  const code = fault === undefined ? [] : [fault.code, fault.message ?? ''];
  const sub = fault?.subCode === undefined ? '' : ` (${fault.subCode})`;
  const exit = exitCode === undefined ? '' : `, exit code ${exitCode}`;
  const texts = code.filter(text => text !== '').map(text => `: ${text}`);
  return plain(`${texts.join('')}${sub}${exit}`);
}
