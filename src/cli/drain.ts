import {
  adminPort,
  AdminUnreachable,
  fieldAt,
  type AdminAddress,
  type AskAdmin,
} from './admin-client.ts';
import { CommandError } from './command-error.ts';
import { writeLine, type CommandContext } from './context.ts';

export interface DrainOptions extends AdminAddress {
  readonly wait: boolean;
  readonly quiet?: boolean;
}

const LOOK_INTERVAL_MS = 250;
/** What a relay may take beyond what it says, until its process is gone. */
const PATIENCE_EXTRA_MS = 10_000;

/** `halfway drain`: asks a relay to drain and end, and waits until it is gone. */
export async function runDrain(options: DrainOptions, context: CommandContext): Promise<void> {
  const { clock, stderr, stdout } = context;
  const ask = adminPort(options, context);
  const uptimeBefore = await uptimeSeconds(ask);
  const { body } = await ask('POST', '/api/drain');
  const endsWithinMs = Number(fieldAt(body, 'endsWithinMs') ?? 0);
  if (!options.wait) {
    await writeLine(stdout, 'draining');
    return;
  }
  if (options.quiet !== true) stderr.write(`draining, at most ${endsWithinMs / 1_000} s\n`);
  const deadlineMs = clock.nowMs() + endsWithinMs + PATIENCE_EXTRA_MS;
  while (!(await isGone(ask, uptimeBefore))) {
    if (clock.nowMs() > deadlineMs) {
      throw new CommandError('It still runs: look into its log; a second SIGTERM ends it at once');
    }
    await new Promise<void>(resolve => void clock.after(LOOK_INTERVAL_MS, resolve));
  }
  await writeLine(stdout, 'drained');
}

/** True as well when another process answers, which has not run for so long. */
async function isGone(ask: AskAdmin, uptimeBefore: number): Promise<boolean> {
  try {
    return (await uptimeSeconds(ask)) < uptimeBefore;
  } catch (error) {
    if (error instanceof AdminUnreachable) return true;
    throw error;
  }
}

async function uptimeSeconds(ask: AskAdmin): Promise<number> {
  const uptime = fieldAt((await ask('GET', '/status')).body, 'uptimeSeconds');
  if (typeof uptime === 'number') return uptime;
  throw new CommandError('The admin port has no /status: is that a Halfway relay?');
}
