import { usageError } from '../command-error.ts';
import { printJson, writeLine, type CommandContext } from '../context.ts';
import type { ApiOptions } from './api-options.ts';
import { withDispatch } from './open-dispatch.ts';
import { findRecord, idOf } from './find-record.ts';
import { pairsIn } from './run-inputs.ts';
import { countOf, defined, secondsOf } from './run-start.ts';
import { checkPrincipal } from './shared-records.ts';
import { momentAt, momentText, plain, printRecord, printTable } from './show.ts';

// Environments, users, tokens, activation codes and the audit log.

/** `halfway env list`: those in which the caller has a role. */
export async function runEnvList(options: ApiOptions, context: CommandContext): Promise<void> {
  await withDispatch(options, context, async client => {
    const found = await client.environments.list();
    if (options.json === true) return printJson(found, context);
    const rows = found.map(({ id, displayName, minAgentVersion }) => [
      id,
      displayName,
      minAgentVersion,
    ]);
    const head = ['NAME', 'DISPLAY NAME', 'MIN AGENT VERSION'];
    await printTable(head, rows, 'There is no environment in which you have a role', context);
  });
}

/** `halfway env show`: the environment of the other commands, or another one. */
export async function runEnvShow(
  name: string | undefined,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const environment = await client.environments.get(name ?? client.environment);
    await printRecord(environment, options, context);
  });
}

export interface EnvOptions extends ApiOptions {
  readonly displayName?: string;
  readonly minAgentVersion?: string;
}

/** `halfway env create`. */
export async function runEnvCreate(
  id: string,
  options: EnvOptions,
  context: CommandContext,
): Promise<void> {
  const { displayName } = options;
  await withDispatch(options, context, async client => {
    const environment = await client.environments.create(defined({ id, displayName }));
    await printRecord(environment, options, context);
  });
}

/** `halfway env set`; `--min-agent-version none` takes the bound away. */
export async function runEnvSet(
  name: string | undefined,
  options: EnvOptions,
  context: CommandContext,
): Promise<void> {
  const { displayName, minAgentVersion } = options;
  const changes = defined({
    displayName,
    // JSON null says that there is to be none.
    minAgentVersion: minAgentVersion === 'none' ? null : minAgentVersion,
  });
  if (Object.keys(changes).length === 0) {
    throw usageError('Nothing to change: give --display-name or --min-agent-version');
  }
  await withDispatch(options, context, async client => {
    const id = name ?? client.environment;
    const { version } = await client.environments.get(id);
    await printRecord(await client.environments.patch(id, changes, version), options, context);
  });
}

/** `halfway env grant` and `revoke` (without a role), in the environment of --environment. */
export async function runEnvRole(
  principal: string,
  role: string | undefined,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  checkPrincipal(principal);
  await withDispatch(options, context, async client => {
    await client.setRole(principal, role);
    await printRecord(await client.environments.get(client.environment), options, context);
  });
}

/** `halfway user me`. */
export async function runUserMe(options: ApiOptions, context: CommandContext): Promise<void> {
  await withDispatch(options, context, async client => {
    await printRecord(await client.me(), options, context);
  });
}

/** `halfway user list`. */
export async function runUserList(options: ApiOptions, context: CommandContext): Promise<void> {
  await withDispatch(options, context, async client => {
    const found = await client.users.list();
    if (options.json === true) return printJson(found, context);
    const rows = found.map(({ id, displayName, isAdmin, isDisabled }) => [
      id,
      displayName,
      isAdmin === true ? 'admin' : '',
      isDisabled === true ? 'disabled' : '',
    ]);
    await printTable(['USER', 'DISPLAY NAME', '', ''], rows, 'There are no users', context);
  });
}

/** `halfway user create`. */
export async function runUserCreate(
  id: string,
  options: ApiOptions & { readonly displayName?: string; readonly admin?: boolean },
  context: CommandContext,
): Promise<void> {
  const { displayName, admin: isAdmin } = options;
  await withDispatch(options, context, async client => {
    const user = await client.users.create(defined({ id, displayName, isAdmin }));
    await printRecord(user, options, context);
  });
}

/** `halfway user disable` and `enable`. */
export async function runUserSwitch(
  id: string,
  isDisabled: boolean,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    await printRecord(await client.users.patch(id, { isDisabled }), options, context);
  });
}

/** `halfway api-token list`. */
export async function runTokenList(options: ApiOptions, context: CommandContext): Promise<void> {
  await withDispatch(options, context, async client => {
    const found = await client.tokens.list();
    if (options.json === true) return printJson(found, context);
    const rows = found.map(({ id, name, principal, isAdmin, expiresAt }) => [
      name,
      principal,
      isAdmin === true ? 'admin' : '',
      momentText(expiresAt),
      id,
    ]);
    const head = ['NAME', 'ACTS AS', '', 'EXPIRES', 'ID'];
    await printTable(head, rows, 'There are no tokens', context);
  });
}

/** `halfway api-token create`: the token on standard output, everything else beside it. */
export async function runTokenCreate(
  name: string,
  options: ApiOptions & {
    readonly user?: string;
    readonly admin?: boolean;
    readonly expiresIn?: string;
  },
  context: CommandContext,
): Promise<void> {
  const { user, admin: isAdmin } = options;
  const expiresInSeconds = secondsOf(options.expiresIn, '--expires-in');
  await withDispatch(options, context, async client => {
    const whose = user === undefined || user.startsWith('user:') ? user : `user:${user}`;
    const body = defined({ name, user: whose, isAdmin, expiresInSeconds });
    const token = await client.tokens.create(body);
    if (options.json === true) return printJson(token, context);
    if (options.quiet !== true) {
      context.stderr.write(`It acts as ${plain(token.principal ?? '')}; it is shown this once\n`);
    }
    await writeLine(context.stdout, token.token ?? '');
  });
}

/** `halfway api-token delete`. */
export async function runTokenDelete(
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const { id, name } = await findRecord(client.tokens, text, 'api-token');
    await client.tokens.delete(id);
    if (options.json === true) return printJson({ deleted: true, id }, context);
    await writeLine(context.stdout, `Deleted ${plain(name)}`);
  });
}

export interface CodeCreateOptions extends ApiOptions {
  readonly name?: string;
  readonly expiresIn?: string;
  readonly uses?: string;
  readonly group?: string;
  readonly label?: readonly string[];
}

/** `halfway code create`: the code on standard output, everything else beside it. */
export async function runCodeCreate(
  options: CodeCreateOptions,
  context: CommandContext,
): Promise<void> {
  const settings = {
    name: options.name,
    expiresInSeconds: secondsOf(options.expiresIn, '--expires-in'),
    uses: countOf(options.uses, '--uses'),
    labels: pairsIn(options.label, '--label'),
  };
  await withDispatch(options, context, async client => {
    const { group } = options;
    const groupId =
      group === undefined ? undefined : (await findRecord(client.groups, group, 'group')).id;
    const code = await client.activationCodes.create(defined({ ...settings, groupId }));
    if (options.json === true) return printJson(code, context);
    if (options.quiet !== true) {
      const uses = code.usesLeft === 1 ? 'one machine' : `${code.usesLeft} machines`;
      context.stderr.write(
        `Good for ${uses} until ${momentText(code.expiresAt)}; it is shown this once\n`,
      );
    }
    await writeLine(context.stdout, code.code ?? '');
  });
}

/** `halfway code list`. */
export async function runCodeList(options: ApiOptions, context: CommandContext): Promise<void> {
  await withDispatch(options, context, async client => {
    const found = await client.activationCodes.list();
    if (options.json === true) return printJson(found, context);
    const rows = found.map(({ id, name, usesLeft, expiresAt, groupId }) => [
      name,
      usesLeft,
      momentText(expiresAt),
      groupId,
      id,
    ]);
    const head = ['NAME', 'USES LEFT', 'EXPIRES', 'GROUP', 'ID'];
    await printTable(head, rows, 'There are no activation codes', context);
  });
}

/** `halfway code delete`: by id, since names of codes say little. */
export async function runCodeDelete(
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  const id = idOf(text, 'code');
  await withDispatch(options, context, async client => {
    await client.activationCodes.delete(id);
    if (options.json === true) return printJson({ deleted: true, id }, context);
    await writeLine(context.stdout, `Deleted ${id}`);
  });
}

/** `halfway audit`: entries in the order in which they were written. */
export async function runAudit(
  options: ApiOptions & { readonly after?: string; readonly limit?: string },
  context: CommandContext,
): Promise<void> {
  const query = {
    after: countOf(options.after, '--after'),
    limit: countOf(options.limit, '--limit'),
  };
  await withDispatch(options, context, async client => {
    const { items } = await client.auditEntries.page(query);
    if (options.json === true) return printJson(items, context);
    const rows = items.map(entry => [
      entry.number,
      momentAt(entry, 'at'),
      entry.action,
      entry.by,
      entry.object,
      Object.entries(entry.details ?? {})
        .map(([name, value]) => `${name}=${String(value)}`)
        .join(' '),
    ]);
    const head = ['NUMBER', 'AT', 'ACTION', 'BY', 'OBJECT', 'DETAILS'];
    await printTable(head, rows, 'There are no entries', context);
  });
}
