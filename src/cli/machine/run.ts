import { randomUUID } from 'node:crypto';
import { credentialOpener } from '../../machine/credential-opener.ts';
import { MachineError, textOf } from '../../machine/machine-error.ts';
import { DRAIN_TIMEOUT_MS, MachineService } from '../../machine/machine-service.ts';
import { openJobDoor } from '../../machine/open-job-door.ts';
import {
  hardwareDigest,
  installationOf,
  requireAllowedTenant,
} from '../../machine/registration-record.ts';
import { runReporter } from '../../machine/run-reporter.ts';
import { OsAccountHost } from '../../machine/session-hosts/os-account-host.ts';
import { ProcessHost } from '../../machine/session-hosts/process-host.ts';
import type { SessionHost } from '../../machine/session-hosts/session-host.ts';
import { SimulatedHost } from '../../machine/session-hosts/simulated-host.ts';
import { EXIT, usageError, type ExitCode } from '../command-error.ts';
import { wantsColour, type CommandContext, type CommandLog, type LogConfig } from '../context.ts';
import { parseDuration } from '../duration.ts';
import { transportOf, wayOptions } from '../route-options.ts';
import {
  inWords,
  openMachine,
  textFile,
  type MachineOptions,
  type OpenMachine,
} from './open-machine.ts';

export interface RunMachineOptions extends MachineOptions {
  readonly drainTimeout?: string;
  readonly sessionHost?: string;
  readonly unattended?: string;
  readonly simulatedTable?: string;
  readonly socketFolder?: string;
  readonly logLevel?: string;
  readonly logFormat?: string;
}

const UNATTENDED_MAX = 10;
const JOBS_FOLDER = 'jobs';

/** `halfway machine run`: the machine service, until a signal. */
export async function runMachine(
  options: RunMachineOptions,
  context: CommandContext,
): Promise<ExitCode> {
  const drainMs = drainTimeoutOf(options.drainTimeout);
  const host = sessionHostOf(options);
  const transport = transportOf(options.transport);
  return inWords('Cannot run this machine', async () => {
    const machine = await openMachine(options, context);
    const log = await context.openLog(
      logConfigOf(machine.record.machineId, options),
      wantsColour(context, context.stdout),
    );
    context.onBug(bug => log.fatal({ err: bug }, 'uncaught error'));
    const installation = installationOf(machine.folder);
    requireAllowedTenant(machine.record.tenant, installation);
    const isFromElsewhere = lookAtOrigin(machine, log);
    const { folder, access } = machine;
    const { clock, version } = context;
    const instance = randomUUID();
    const { installId, labels = {} } = installation;
    const service = new MachineService({
      ...machine,
      way: { ...wayOptions(options), transport },
      installId,
      labels,
      instance,
      version,
      clock,
      log,
    });
    const door = await openDoor({
      folder: folder.folder(JOBS_FOLDER).path,
      socketFolder: options.socketFolder,
      reporter: runReporter(access),
      opener: credentialOpener(() => service.held(), log),
      host,
      clock,
      log,
      instance,
      agentVersion: version,
      askStandings: () => service.askStandings(),
      isFromElsewhere,
    });
    let isStopping = false;
    const ignoreSignals = context.onSignal(['SIGTERM', 'SIGINT'], signal => {
      if (isStopping) {
        log.warn({ signal }, 'second signal: ending at once');
        context.exit(EXIT.failed);
        return;
      }
      isStopping = true;
      service.drain(drainMs).catch((error: unknown) => log.error({ err: error }, 'drain failed'));
    });
    const { machineId, name, environment, server } = machine.record;
    const about = { machineId, name, environment, server, sessionHost: host.kind };
    log.info({ ...about, pid: process.pid }, 'machine service started');
    try {
      await service.run(door, new AbortController().signal);
      return EXIT.ok;
    } catch (error) {
      if (error instanceof MachineError)
        log.error({ why: error.message }, 'machine service cannot go on');
      throw error;
    } finally {
      ignoreSignals();
    }
  });
}

async function openDoor(
  options: Parameters<typeof openJobDoor>[0],
): ReturnType<typeof openJobDoor> {
  try {
    return await openJobDoor(options);
  } catch (error) {
    throw new MachineError('Busy', textOf(error), { cause: error });
  }
}

/** Says what is to be known of keys and state folder; returns whether that was made on another computer. */
function lookAtOrigin({ keyStore, record }: OpenMachine, log: CommandLog): boolean {
  if (keyStore.protection === 'plain') {
    log.warn({}, 'private keys are kept in plain files of this account');
  } else {
    const count = keyStore.strengthen();
    if (count > 0) log.info({ count }, 'private keys are wrapped from now on');
  }
  const digest = hardwareDigest();
  const isElsewhere = record.hardwareDigest !== undefined && digest !== record.hardwareDigest;
  if (isElsewhere) {
    log.warn(
      {},
      'this registration was made on another computer, or before its name changed: if this is a copy, register it with --force',
    );
  }
  return isElsewhere;
}

function drainTimeoutOf(text: string | undefined): number {
  if (text === undefined) return DRAIN_TIMEOUT_MS;
  const ms = parseDuration(text);
  if (ms !== undefined) return ms;
  throw usageError(`Cannot use --drain-timeout "${text}": it is such as 30s, 10m, 1h`);
}

function sessionHostOf(options: RunMachineOptions): SessionHost {
  const unattended = Number(options.unattended ?? '1');
  if (!Number.isInteger(unattended) || unattended < 1 || unattended > UNATTENDED_MAX) {
    throw usageError(`Cannot use --unattended: it is a number from 1 to ${UNATTENDED_MAX}`);
  }
  switch (options.sessionHost ?? 'process') {
    case 'process':
      return new ProcessHost({ unattended, attended: 1 });
    case 'os-account':
      return new OsAccountHost({ unattended });
    case 'simulated': {
      const file = options.simulatedTable;
      if (file === undefined) return new SimulatedHost(() => ({}));
      // Once now, so that what is wrong with it is said at the start.
      const read = (): Readonly<Record<string, unknown>> => tableIn(file);
      read();
      return new SimulatedHost(read);
    }
    default:
      throw usageError('Cannot use --session-host: it is process, os-account or simulated');
  }
}

function tableIn(file: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(textFile(file, '--simulated-table'));
  } catch (error) {
    throw usageError(`Cannot read --simulated-table: ${textOf(error)}`);
  }
  if (typeof value === 'object' && value !== null) return { ...value };
  throw usageError('Cannot read --simulated-table: it must be a JSON object');
}

function logConfigOf(
  nodeId: string,
  { logLevel = 'info', logFormat = 'json' }: RunMachineOptions,
): LogConfig {
  if (!isLevel(logLevel))
    throw usageError('Cannot use --log-level: it is debug, info, warn or error');
  if (logFormat !== 'json' && logFormat !== 'pretty') {
    throw usageError('Cannot use --log-format: it is json or pretty');
  }
  return { nodeId, logLevel, logFormat };
}

function isLevel(text: string): text is LogConfig['logLevel'] {
  return ['debug', 'info', 'warn', 'error'].includes(text);
}
