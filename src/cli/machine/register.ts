import { askService } from '../../machine/service-socket.ts';
import { ControlClient } from '../../machine/control-client.ts';
import { registerMachine, type Entrance, type RegisteredMachine } from '../../machine/register.ts';
import { SERVICE_STATE } from '../../machine/state-folder.ts';
import { usageError } from '../command-error.ts';
import { writeLine, type CommandContext } from '../context.ts';
import { readSecret } from '../secret-input.ts';
import {
  given,
  givenSecret,
  inWords,
  listOf,
  openFolder,
  openKeyStore,
  originOf,
  parseLabels,
  routesOf,
  type MachineOptions,
} from './open-machine.ts';

export interface RegisterOptions extends MachineOptions {
  readonly endpoint?: string;
  readonly environment?: string;
  readonly apiTokenFile?: string;
  readonly activationCodeFile?: string;
  readonly activationCode?: boolean;
  readonly name?: string;
  readonly description?: string;
  readonly labels?: string;
  readonly allowedTenants?: string;
  readonly force?: boolean;
}

/** `halfway machine register`: makes this computer a machine. */
export async function runMachineRegister(
  options: RegisterOptions,
  context: CommandContext,
): Promise<void> {
  const { clock, env, version, stdout, stderr } = context;
  const origin = originOf(options.endpoint, context);
  const labels = parseLabels(options.labels);
  const registered = await inWords('Cannot register this machine', async () => {
    const folder = openFolder(options, context, false);
    const keys = openKeyStore(folder, options, context);
    if (keys.protection === 'plain' && options.quiet !== true) {
      stderr.write(
        `note: the private keys are kept in "${folder.path}" as they are, readable by this account alone; ` +
          'see "machine-key" in the unit of the service to have them wrapped\n',
      );
    }
    const client = new ControlClient({ origin, routes: routesOf(options), clock });
    const made = await registerMachine(
      {
        entrance: await entranceOf(options, context),
        environment: given(options.environment, env['HALFWAY_ENVIRONMENT']) ?? 'default',
        name: options.name,
        description: options.description,
        labels,
        force: options.force === true,
        allowedTenants: listOf(options.allowedTenants),
        agentVersion: version,
      },
      { folder, keys, client, clock },
    );
    // A service that runs as what this machine was ends, to be started anew.
    await askService(folder, 'reload', clock).catch(() => undefined);
    return { ...made, isOfService: folder.path === SERVICE_STATE, state: options.state };
  });
  if (options.json === true) {
    const { record, fingerprint, groupId, replaced } = registered;
    const { machineId, name, environment, tenant } = record;
    const shown = { machineId, name, environment, tenant, fingerprint, groupId, replaced };
    await writeLine(stdout, JSON.stringify(shown));
    return;
  }
  for (const line of linesOf(registered, context)) await writeLine(stdout, line);
}

function linesOf(
  made: RegisteredMachine & { readonly isOfService: boolean; readonly state: string | undefined },
  { invocation }: CommandContext,
): readonly string[] {
  const { record, fingerprint, groupId, replaced, isOfService, state } = made;
  const place = state === undefined ? '' : ` --state ${state}`;
  const start = isOfService
    ? 'sudo systemctl restart halfway-machine'
    : `${invocation} machine run${place}`;
  return [
    `registered  ${record.name}`,
    `machine     ${record.machineId} in ${record.environment}`,
    `fingerprint ${fingerprint}`,
    '            compare it with what is shown where credentials for this machine are entered',
    ...(replaced === undefined
      ? []
      : [`replaced    ${replaced}, whose connections are gone: enter their credentials again`]),
    ...(groupId === undefined
      ? []
      : [`may join    ${invocation} machine join-group ${groupId}${place}`]),
    `start it    ${start}`,
  ];
}

async function entranceOf(options: RegisterOptions, context: CommandContext): Promise<Entrance> {
  const wantsCode = options.activationCodeFile !== undefined || options.activationCode === true;
  if (wantsCode && options.apiTokenFile !== undefined) {
    throw usageError('Cannot take an API token and an activation code: give one');
  }
  const code =
    options.apiTokenFile === undefined
      ? await givenSecret(
          {
            what: 'activation code',
            file: options.activationCodeFile,
            variable: 'HALFWAY_ACTIVATION_CODE',
          },
          context,
        )
      : undefined;
  if (code !== undefined) return { type: 'code', code };
  if (wantsCode) {
    const typed = await readSecret({ what: 'activation code', file: undefined }, context);
    return { type: 'code', code: typed.trim() };
  }
  const what = 'API token';
  const file = options.apiTokenFile;
  const token =
    (await givenSecret({ what, file, variable: 'HALFWAY_API_TOKEN' }, context)) ??
    (await readSecret({ what, file: undefined }, context)).trim();
  return { type: 'token', token };
}
