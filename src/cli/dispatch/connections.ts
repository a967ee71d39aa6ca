import { randomUUID } from 'node:crypto';
import type { Envelope } from '../../crypto/envelope.ts';
import type { DispatchClient } from '../../dispatch-client/dispatch-client.ts';
import { readAnswer } from '../../dispatch-client/record-collection.ts';
import {
  runPageSchema,
  runSchema,
  type ConnectionView,
  type RunView,
} from '../../dispatch-client/representations.ts';
import { accountOf, sealCredentials, type TargetKey } from '../../dispatch-client/sealing.ts';
import { EXIT, usageError, type ExitCode } from '../command-error.ts';
import { printJson, writeLine, type CommandContext } from '../context.ts';
import { readSecret } from '../secret-input.ts';
import type { ApiOptions } from './api-options.ts';
import { withDispatch } from './open-dispatch.ts';
import {
  findRecord,
  findTarget,
  namesOf,
  type FoundTarget,
  type TargetOptions,
} from './find-record.ts';
import { followRun, faultText } from './run-follow.ts';
import { defined } from './run-start.ts';
import { plain, printRecord, printTable } from './show.ts';
import { trustedKey, type TrustOptions } from './trusted-key.ts';

/** What a connection signs in with. */
interface AccountOptions extends TrustOptions, TargetOptions {
  readonly user?: string;
  readonly passwordFile?: string;
  readonly vaultRef?: string;
  readonly accountName?: string;
  readonly mayReseal?: boolean;
}

export interface ConnectionCreateOptions extends AccountOptions {
  readonly signedIn?: boolean;
}

export interface ConnectionUpdateOptions extends AccountOptions {
  readonly name?: string;
}

/** `halfway connection create`: seals the account here and sends the envelope. */
export async function runConnectionCreate(
  name: string | undefined,
  options: ConnectionCreateOptions,
  context: CommandContext,
): Promise<void> {
  const { user, vaultRef, signedIn, accountName, mayReseal } = options;
  if ([user, vaultRef, signedIn].filter(given => given !== undefined).length !== 1) {
    throw usageError(
      'Cannot tell who signs in: give one of --user ACCOUNT, --vault-ref REF, and --signed-in for whoever is there',
    );
  }
  await withDispatch(options, context, async client => {
    const target = await findTarget(client, options);
    if (target === undefined) throw usageError('Cannot tell where: give --machine or --group');
    const id = randomUUID();
    const envelope =
      user === undefined
        ? undefined
        : await sealedAccount({ id, credentialVersion: 1, user, options, context }, () =>
            trustedKey(client, target, options, context),
          );
    const connection = await client.connections.create(
      defined({
        id,
        name: name ?? `${user ?? vaultRef ?? 'signed-in user'} at ${target.name}`,
        kind: user !== undefined ? 'password' : vaultRef !== undefined ? 'vaultRef' : 'none',
        target: { kind: target.kind, id: target.id },
        envelope,
        vaultRef,
        accountName,
        mayReseal,
      }),
    );
    await printRecord(connection, options, context);
  });
}

/** `halfway connection update`: new credentials take the place of the old ones. */
export async function runConnectionUpdate(
  text: string,
  options: ConnectionUpdateOptions,
  context: CommandContext,
): Promise<void> {
  const { user, name, vaultRef, accountName, mayReseal } = options;
  const plainChanges = defined({ name, vaultRef, accountName, mayReseal });
  const hasTarget = options.machine !== undefined || options.group !== undefined;
  if (Object.keys(plainChanges).length === 0 && user === undefined && !hasTarget) {
    throw usageError(
      'Nothing to change: give --user, --machine, --group, --name, --vault-ref, --account-name or --may-reseal',
    );
  }
  await withDispatch(options, context, async client => {
    const before = await findRecord(client.connections, text, 'connection');
    const moved = await findTarget(client, options);
    const target = moved ?? (await presentTarget(client, before, user !== undefined));
    if (moved !== undefined && before.kind === 'password' && user === undefined) {
      throw usageError('Another target has another key: give --user, to seal the account to it');
    }
    const credentialVersion = before.credentialVersion + 1;
    const { id } = before;
    const envelope =
      user === undefined || target === undefined
        ? undefined
        : await sealedAccount({ id, credentialVersion, user, options, context }, () =>
            trustedKey(client, target, options, context),
          );
    const hasNew = envelope !== undefined || vaultRef !== undefined;
    const changes = defined({
      ...plainChanges,
      target: moved === undefined ? undefined : { kind: moved.kind, id: moved.id },
      envelope,
      credentialVersion: hasNew ? credentialVersion : undefined,
    });
    const connection = await client.connections.patch(id, changes, before.version);
    await printRecord(connection, options, context);
  });
}

/** The target's name is asked for only where something is sealed to it. */
async function presentTarget(
  client: DispatchClient,
  { target: { kind, id } }: ConnectionView,
  isNeeded: boolean,
): Promise<FoundTarget | undefined> {
  if (!isNeeded) return undefined;
  const { name } = await (kind === 'machine' ? client.machines : client.groups).get(id);
  return { kind, id, name };
}

async function sealedAccount(
  what: {
    readonly id: string;
    readonly credentialVersion: number;
    readonly user: string;
    readonly options: AccountOptions;
    readonly context: CommandContext;
  },
  keyOf: () => Promise<TargetKey>,
): Promise<Envelope> {
  const { id, credentialVersion, user, options, context } = what;
  const account = accountOf(user);
  if (account === undefined) {
    throw usageError(`Cannot read --user: it is DOMAIN\\USER, .\\USER, USER@DOMAIN or USER`);
  }
  if (options.passwordFile === '-' && options.apiTokenFile === '-') {
    throw usageError('Cannot read both the API token and the password from standard input');
  }
  // The key first: whoever is told that it has changed has not typed a password for nothing.
  const key = await keyOf();
  const password = await readSecret({ what: 'password', file: options.passwordFile }, context);
  return sealCredentials(key, { id, credentialVersion }, { ...account, password });
}

/** `halfway connection list`. */
export async function runConnectionList(
  options: ApiOptions & TargetOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const target = await findTarget(client, options);
    const query = { targetKind: target?.kind, targetId: target?.id };
    const found = await client.connections.list(query);
    if (options.json === true) return printJson(found, context);
    const [machineName, groupName] = await Promise.all([
      namesOf(client.machines),
      namesOf(client.groups),
    ]);
    const rows = found.map(
      ({ id, name, kind, target: at, owner, credentialVersion, suspended }) => [
        name,
        kind,
        `${at.kind} ${(at.kind === 'machine' ? machineName : groupName)(at.id)}`,
        credentialVersion,
        suspended === undefined ? '' : suspended.code,
        owner,
        id,
      ],
    );
    const head = ['NAME', 'KIND', 'TARGET', 'VERSION', 'SUSPENDED', 'OWNER', 'ID'];
    await printTable(head, rows, 'There are no connections', context);
  });
}

export interface ConnectionTestOptions extends ApiOptions {
  readonly machine?: string;
  readonly everyMember?: boolean;
}

/** `halfway connection test`: a run that signs in and does nothing else; of a group one machine's, or each one's. */
export async function runConnectionTest(
  text: string,
  options: ConnectionTestOptions,
  context: CommandContext,
): Promise<ExitCode> {
  const { machine, everyMember } = options;
  if (machine !== undefined && everyMember === true) {
    throw usageError('Give --machine or --every-member, not both');
  }
  return withDispatch(options, context, async client => {
    const { id, name } = await findRecord(client.connections, text, 'connection');
    const machineId =
      machine === undefined
        ? undefined
        : (await findRecord(client.machines, machine, 'machine')).id;
    const body = defined({ machineId, everyMember });
    const answer = await client.connections.act(id, 'test', body);
    const runs =
      everyMember === true
        ? readAnswer(runPageSchema, answer).items
        : [readAnswer(runSchema, answer)];
    const ended: RunView[] = [];
    for (const run of runs) {
      const end = await followRun(client, run.id, options, context);
      if (end === undefined) return EXIT.failed;
      ended.push(end);
    }
    if (options.json === true) await printJson(everyMember === true ? ended : ended[0], context);
    const machineName = await namesOf(client.machines);
    for (const end of ended) await tellTest(plain(name), end, { machineName, options, context });
    return ended.every(({ state }) => state === 'Succeeded') ? EXIT.ok : EXIT.failed;
  });
}

async function tellTest(
  name: string,
  run: RunView,
  by: {
    readonly machineName: (id: string) => string;
    readonly options: ApiOptions;
    readonly context: CommandContext;
  },
): Promise<void> {
  const { stdout, stderr } = by.context;
  const where = run.machineId === undefined ? '' : ` at ${plain(by.machineName(run.machineId))}`;
  if (run.state !== 'Succeeded') {
    const end = `ended as ${run.state}${faultText(run)}`;
    stderr.write(`halfway: "${name}" was tried${where} and ${end}\n`);
  } else if (by.options.json !== true) {
    await writeLine(stdout, `"${name}" signs in${where}`);
  }
}
