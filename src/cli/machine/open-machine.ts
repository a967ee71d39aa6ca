import { readFileSync } from 'node:fs';
import { isLoopback } from '../../client/loopback.ts';
import { plainOnLoopback } from '../../client/relay-target.ts';
import { Routes } from '../../client/routes.ts';
import { ControlClient, ControlError } from '../../machine/control-client.ts';
import { KeyStore, type MachineKeys } from '../../machine/key-store.ts';
import { MachineAccess } from '../../machine/machine-access.ts';
import { MachineError } from '../../machine/machine-error.ts';
import { protectorOf } from '../../machine/protector.ts';
import { requireRegistration, type RegistrationRecord } from '../../machine/registration-record.ts';
import { askService } from '../../machine/service-socket.ts';
import { defaultStatePath, StateFolder } from '../../machine/state-folder.ts';
import { httpOrigin, parseEndpoint } from '../../protocol/connection-string.ts';
import { CommandError, EXIT, messageOf, usageError } from '../command-error.ts';
import type { CommandContext } from '../context.ts';
import { wayOptions, withUsageErrors, type RouteOptions } from '../route-options.ts';
import { readSecret } from '../secret-input.ts';

/** Options of every command of the machine service. */
export interface MachineOptions extends RouteOptions {
  readonly state?: string;
  readonly wrappingKeyFile?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** A machine that is registered, as its state folder has it. */
export interface OpenMachine {
  readonly folder: StateFolder;
  readonly keyStore: KeyStore;
  readonly keys: MachineKeys;
  readonly record: RegistrationRecord;
  readonly client: ControlClient;
  readonly access: MachineAccess;
}

export function openFolder(
  { state }: MachineOptions,
  { env }: CommandContext,
  mustExist: boolean,
): StateFolder {
  return StateFolder.open(state ?? defaultStatePath(env), { mustExist });
}

export function openKeyStore(
  folder: StateFolder,
  { wrappingKeyFile }: MachineOptions,
  { env }: CommandContext,
): KeyStore {
  return new KeyStore(folder, protectorOf(env, wrappingKeyFile));
}

export async function openMachine(
  options: MachineOptions,
  context: CommandContext,
): Promise<OpenMachine> {
  const folder = openFolder(options, context, true);
  const record = requireRegistration(folder);
  const keyStore = openKeyStore(folder, options, context);
  const { identityKid: identity, encryptionKid: encryption, environment, machineId } = record;
  const keys = await keyStore.load({ identity, encryption });
  const { clock } = context;
  const client = new ControlClient({ origin: record.server, routes: routesOf(options), clock });
  const access = new MachineAccess({
    client,
    clock,
    identity: keys.identity,
    environment,
    machineId,
  });
  return { folder, keyStore, keys, record, client, access };
}

export function routesOf(options: RouteOptions): Routes {
  return withUsageErrors(() => new Routes(wayOptions(options)));
}

const ENDPOINT_VARIABLE = 'HALFWAY_ENDPOINT';

/** Where the control plane is: `http://host:port` or `https://host:port`. */
export function originOf(endpoint: string | undefined, { env, stderr }: CommandContext): string {
  const text = given(endpoint, env[ENDPOINT_VARIABLE]);
  if (text === undefined) {
    throw usageError(
      `Cannot tell where the control plane is: give --endpoint https://HOST, or set ${ENDPOINT_VARIABLE}`,
    );
  }
  const parsed = parseEndpoint(text.replace(/^ws(?=s?:)/i, 'http'));
  if (parsed === undefined) {
    throw usageError(`Cannot use --endpoint "${text}": it must be such as https://HOST[:PORT]`);
  }
  const place = plainOnLoopback(parsed, false);
  if (place.scheme === 'http' && !isLoopback(place.host)) {
    stderr.write('note: without TLS others on the way can read tokens and use them\n');
  }
  return httpOrigin(place);
}

/** Of empty variables, which Compose files and charts pass on, nothing is seen. */
export function given(
  option: string | undefined,
  variable: string | undefined,
): string | undefined {
  return option ?? (variable === '' ? undefined : variable);
}

/**
 * A secret from a file ("-": standard input), a variable, or the file that `<variable>_FILE` names; undefined
 * when none of them is given.
 */
export async function givenSecret(
  of: { readonly what: string; readonly file: string | undefined; readonly variable: string },
  context: CommandContext,
): Promise<string | undefined> {
  const { env } = context;
  const text = env[of.variable] ?? '';
  if (of.file === undefined && text !== '') return text;
  const file = given(of.file, env[`${of.variable}_FILE`]);
  return file === undefined
    ? undefined
    : (await readSecret({ what: of.what, file }, context)).trim();
}

/** Runs a command; what the machine's own parts and the control plane say is told in their words. */
export async function inWords<T>(what: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof MachineError) {
      const isConfig = error.fault === 'State' || error.fault === 'NotRegistered';
      throw new CommandError(
        withCode(error.message, error.code),
        isConfig ? EXIT.config : EXIT.failed,
      );
    }
    if (error instanceof ControlError) {
      const code = error.code === 'Unreachable' ? undefined : error.code;
      const message = error.code === 'Unreachable' ? error.message : `${what}: ${error.message}`;
      throw new CommandError(withCode(message, code));
    }
    throw error;
  }
}

function withCode(message: string, code: string | undefined): string {
  return code === undefined ? message : `${message} (${code})`;
}

/** `name=value,name=value` as a record. */
export function parseLabels(text: string | undefined): Record<string, string> | undefined {
  if (text === undefined) return undefined;
  const pairs = text
    .split(',')
    .filter(pair => pair.trim() !== '')
    .map(pair => {
      const at = pair.indexOf('=');
      if (at < 1) throw usageError(`Cannot read the label "${pair}": it must be NAME=VALUE`);
      return [pair.slice(0, at).trim(), pair.slice(at + 1).trim()] as const;
    });
  return Object.fromEntries(pairs);
}

export function listOf(text: string | undefined): readonly string[] | undefined {
  if (text === undefined) return undefined;
  return text
    .split(',')
    .map(part => part.trim())
    .filter(part => part !== '');
}

/** A file's text; throws a usage error that names the option. */
export function textFile(path: string, option: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw usageError(`Cannot read ${option}: ${messageOf(error)}`);
  }
}

/** Has the running service read its registration and keys anew; where none runs there is nobody to tell. */
export async function tellService(
  { folder }: OpenMachine,
  { clock, stderr }: CommandContext,
): Promise<void> {
  try {
    await askService(folder, 'reload', clock);
  } catch {
    stderr.write(
      'note: the running service did not answer: restart it so that it sees the change\n',
    );
  }
}
