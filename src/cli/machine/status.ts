import { fingerprintOf } from '../../crypto/fingerprint.ts';
import { readRegistration, type RegistrationRecord } from '../../machine/registration-record.ts';
import { askService } from '../../machine/service-socket.ts';
import type { ServiceReport } from '../../machine/service-status.ts';
import { tableOf } from '../admin-client.ts';
import { EXIT, type ExitCode } from '../command-error.ts';
import { writeLine, type CommandContext } from '../context.ts';
import { inWords, openFolder, type MachineOptions } from './open-machine.ts';

/** `halfway machine status`: 0 when the service runs and its channel is online, 1 otherwise. */
export async function runMachineStatus(
  options: MachineOptions,
  context: CommandContext,
): Promise<ExitCode> {
  const { stdout, clock } = context;
  const { record, report } = await inWords('Cannot tell', async () => {
    const folder = openFolder(options, context, true);
    const found = readRegistration(folder);
    const answer = found && (await askService(folder, 'status', clock));
    return { record: found, report: isReport(answer) ? answer : undefined };
  });
  const isUp = report?.channel.state === 'online' && report.hello.problem === undefined;
  if (options.json === true) {
    const shown = {
      isRegistered: record !== undefined,
      isRunning: report !== undefined,
      ...(record === undefined ? {} : registrationOf(record)),
      ...(report === undefined ? {} : { service: report }),
    };
    await writeLine(stdout, JSON.stringify(shown));
  } else {
    await writeLine(stdout, textOfStatus(record, report, context));
  }
  return isUp ? EXIT.ok : EXIT.failed;
}

function registrationOf(record: RegistrationRecord): object {
  const { machineId, name, environment, tenant, server, relayPath, group, registeredAt } = record;
  const fingerprint = fingerprintOf(record.encryptionKid);
  const groupShown = group && { id: group.id, fingerprint: fingerprintOf(group.kid) };
  const shown = { machineId, name, environment, tenant, server, relayPath, registeredAt };
  return { ...shown, fingerprint, ...(groupShown === undefined ? {} : { group: groupShown }) };
}

function textOfStatus(
  record: RegistrationRecord | undefined,
  report: ServiceReport | undefined,
  { invocation }: CommandContext,
): string {
  if (record === undefined) return `not registered: ${invocation} machine register`;
  const rows = [
    ['machine', `${record.name} (${record.machineId}) in ${record.environment}`],
    ['server', record.server],
    ['fingerprint', fingerprintOf(record.encryptionKid)],
    ...(record.group === undefined
      ? []
      : [['group', `${record.group.id}, fingerprint ${fingerprintOf(record.group.kid)}`]]),
  ];
  if (report === undefined) {
    return tableOf([...rows, ['service', `does not run: ${invocation} machine run`]]);
  }
  const { pid, version, startedAt, channel, hello, isDraining, runs, lastErrors } = report;
  const by = channel.transport === undefined ? '' : ` by ${channel.transport}`;
  const skew = hello.clockSkewMs === undefined ? '' : `, clock off by ${hello.clockSkewMs} ms`;
  const hellos = hello.problem ?? `last at ${hello.lastAt ?? 'no time yet'}${skew}`;
  const main = tableOf([
    ...rows,
    [
      'service',
      `${isDraining ? 'draining' : 'runs'}, process ${pid}, ${version}, since ${startedAt}`,
    ],
    ['keys', report.keyProtection === 'plain' ? 'plain files' : 'wrapped'],
    ['channel', `${channel.state}${by}, since ${channel.since}`],
    ['hello', hellos],
    ['runs', String(runs.length)],
    ...(report.drainAskedAt === undefined
      ? []
      : [['drained', `at ${report.drainAskedAt}, by the server`]]),
  ]);
  const running = runs.map(({ runId, attempt, state, mode, jobRef }) => [
    runId,
    `attempt ${attempt}`,
    state,
    mode,
    jobRef,
  ]);
  const errors = lastErrors.map(({ at, what, why }) => [at, what, why]);
  return [main, running, errors]
    .map(part => (typeof part === 'string' ? part : part.length === 0 ? '' : tableOf(part)))
    .filter(part => part !== '')
    .join('\n\n');
}

function isReport(value: unknown): value is ServiceReport {
  return typeof value === 'object' && value !== null && 'channel' in value && 'hello' in value;
}
