import { adminPort, fieldAt, tableOf, textAt, type AdminAddress } from './admin-client.ts';
import { CommandError } from './command-error.ts';
import { writeLine, type CommandContext } from './context.ts';

export interface StatusOptions extends AdminAddress {
  readonly watch?: boolean;
  readonly json?: boolean;
}

const WATCH_INTERVAL_MS = 1_000;
/** Cursor to the top left, and everything below it away. */
const CLEAR = '\u001b[H\u001b[J';

/** `halfway status`: what `/status` of the admin port says, once or again and again. */
export async function runStatus(options: StatusOptions, context: CommandContext): Promise<void> {
  const ask = adminPort(options, context);
  const read = async (): Promise<string> => {
    const { body } = await ask('GET', '/status');
    if (textAt(body, 'version') === '') {
      throw new CommandError('The admin port has no /status: is that a Halfway relay?');
    }
    return options.json === true ? JSON.stringify(body) : statusText(body);
  };
  if (options.watch === true) await watch(read, options, context);
  else await writeLine(context.stdout, await read());
}

/** Until a signal. A relay that is away is shown as that: it may come back. */
async function watch(
  read: () => Promise<string>,
  options: StatusOptions,
  context: CommandContext,
): Promise<void> {
  const { stdout, stderr, clock } = context;
  const stop = new AbortController();
  const ignore = context.onSignal(['SIGINT', 'SIGTERM'], () => stop.abort());
  const before = stdout.isTTY === true && options.json !== true ? CLEAR : '';
  while (!stop.signal.aborted) {
    try {
      await writeLine(stdout, `${before}${await read()}`);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      await writeLine(before === '' ? stderr : stdout, `${before}${error.message}`);
    }
    await new Promise<void>(resolve => {
      const cancel = clock.after(WATCH_INTERVAL_MS, resolve);
      stop.signal.addEventListener('abort', () => {
        cancel();
        resolve();
      });
    });
  }
  ignore();
}

/** The report of `/status` for people. */
export function statusText(report: unknown): string {
  const reasons = textsAt(report, 'reasons');
  const isReady = fieldAt(report, 'ready') === true;
  const state = [isReady ? 'ready' : 'not ready', ...reasons].join('; ');
  const head = [
    `${textAt(report, 'node')}: ${state}`,
    `version ${textAt(report, 'version')}, up ${age(fieldAt(report, 'uptimeSeconds'))}, data plane ${textAt(report, 'dataPlane')}`,
    `${textAt(report, 'listeners')} listeners, ${textAt(report, 'senders')} senders (${textAt(report, 'waitingSenders')} waiting)`,
  ].join('\n');
  return [head, entities(report), cluster(report), workers(report)]
    .filter(part => part !== '')
    .join('\n\n');
}

function entities(report: unknown): string {
  const rows = itemsAt(report, 'hybridConnections').map(row => [
    `${textAt(row, 'namespace')}/${textAt(row, 'name')}`,
    textAt(row, 'listeners'),
    textAt(row, 'pairs'),
    textAt(row, 'requests'),
    textAt(row, 'bytesToListener'),
    textAt(row, 'bytesToSender'),
  ]);
  if (rows.length === 0) return 'no hybrid connections';
  return tableOf([
    ['HYBRID CONNECTION', 'LISTENERS', 'PAIRS', 'REQUESTS', 'BYTES TO LISTENERS', 'TO SENDERS'],
    ...rows,
  ]);
}

function cluster(report: unknown): string {
  const it = fieldAt(report, 'cluster');
  if (it === undefined) return '';
  const where = textAt(it, 'coordinator') === 'redis' ? 'Redis' : 'the parent process';
  const isUp = fieldAt(it, 'coordinatorUp') === true;
  const problems = [...textsAt(it, 'degraded'), ...textsAt(it, 'warnings')];
  const rows = itemsAt(it, 'nodes').map(node => {
    const [why, roundTrip] = [textAt(node, 'why'), fieldAt(node, 'roundTripMs')];
    return [
      textAt(node, 'node'),
      textAt(node, 'state'),
      textAt(node, 'meshAddress'),
      why === '' ? textAt(node, 'link') : `${textAt(node, 'link')} (${why})`,
      typeof roundTrip === 'number' ? `${roundTrip.toFixed(1)} ms` : '',
      textAt(node, 'listeners'),
    ];
  });
  return [
    `directory in ${where}${isUp ? '' : ', which is away'}: ${textAt(it, 'listenersHere')} listeners here, ` +
      `${textAt(it, 'listenersElsewhere')} elsewhere, ${textAt(it, 'listenersUnwritten')} not written, ` +
      `${textAt(it, 'feedLagChanges')} changes behind`,
    ...problems.map(problem => `! ${problem}`),
    tableOf([['NODE', 'STATE', 'MESH ADDRESS', 'LINK', 'ROUND TRIP', 'LISTENERS'], ...rows]),
  ].join('\n');
}

function workers(report: unknown): string {
  const rows = itemsAt(report, 'workers').map(worker => [
    textAt(worker, 'node'),
    textAt(worker, 'pid'),
    `${textAt(worker, 'state')}${fieldAt(worker, 'ready') === true ? '' : ', not ready'}`,
    textAt(worker, 'restarts'),
    textAt(worker, 'listeners'),
    textAt(worker, 'senders'),
  ]);
  if (rows.length === 0) return '';
  return tableOf([['WORKER', 'PROCESS', 'STATE', 'RESTARTS', 'LISTENERS', 'SENDERS'], ...rows]);
}

function itemsAt(value: unknown, name: string): readonly unknown[] {
  const field = fieldAt(value, name);
  return Array.isArray(field) ? field : [];
}

function textsAt(value: unknown, name: string): readonly string[] {
  return itemsAt(value, name).map(String);
}

/** `3d 4h`, `5m 6s`: the two greatest units. */
function age(seconds: unknown): string {
  const total = typeof seconds === 'number' ? Math.floor(seconds) : 0;
  const parts = [
    [Math.floor(total / 86_400), 'd'],
    [Math.floor(total / 3_600) % 24, 'h'],
    [Math.floor(total / 60) % 60, 'm'],
    [total % 60, 's'],
  ] as const;
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first === -1) return '0s';
  return parts
    .slice(first, first + 2)
    .map(([amount, unit]) => `${amount}${unit}`)
    .join(' ');
}
