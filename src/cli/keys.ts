import { readFileSync } from 'node:fs';
import {
  fieldAt,
  listIn,
  openAdminClient,
  tableOf,
  textAt,
  warnIfLost,
  type AdminOptions,
} from './admin-client.ts';
import { messageOf, usageError } from './command-error.ts';
import { printJson, readAll, writeLine, type CommandContext } from './context.ts';
import { hycoPath } from './hyco.ts';

export interface KeysOptions extends AdminOptions {
  /** The hybrid connection whose rule it is; without it the namespace's. */
  readonly hyco?: string;
}

export interface RenewOptions extends KeysOptions {
  readonly key?: string;
  readonly keyValueFile?: string;
  readonly show?: boolean;
}

export interface CreateRuleOptions extends KeysOptions {
  readonly rights: string;
  readonly show?: boolean;
}

/** `halfway keys list`: the rules there are, or the keys and connection strings of one. */
export async function runKeysList(
  rule: string | undefined,
  options: KeysOptions,
  context: CommandContext,
): Promise<void> {
  const client = await openAdminClient(options, context);
  if (rule !== undefined) {
    const { body } = await client.call('POST', `${rulePath(options, rule)}/listKeys`);
    await printKeys(body, options, context);
    return;
  }
  const { body } = await client.call('GET', rulesPath(options));
  if (options.json === true) return printJson(listIn(body), context);
  const rows = listIn(body).map(one => {
    const properties = fieldAt(one, 'properties');
    const rights = fieldAt(properties, 'rights');
    return [
      textAt(one, 'name'),
      Array.isArray(rights) ? rights.join(',') : '',
      textAt(properties, 'definedBy'),
    ];
  });
  if (rows.length === 0) context.stderr.write('There are no rules\n');
  else await writeLine(context.stdout, tableOf([['RULE', 'RIGHTS', 'DEFINED BY'], ...rows]));
}

/** `halfway keys create`: a rule with two new keys. */
export async function runKeysCreate(
  rule: string,
  options: CreateRuleOptions,
  context: CommandContext,
): Promise<void> {
  const rights = options.rights.split(',').map(right => capitalised(right.trim()));
  const client = await openAdminClient(options, context);
  const path = rulePath(options, rule);
  await client.call('PUT', path, { body: { properties: { rights } }, ifNoneMatch: '*' });
  warnIfLost(client, context);
  if (options.show === true) {
    await printKeys((await client.call('POST', `${path}/listKeys`)).body, options, context);
    return;
  }
  if (options.json === true) return printJson((await client.call('GET', path)).body, context);
  await writeLine(context.stdout, `Created ${rule}; \`halfway keys list ${rule}\` shows its keys`);
}

/** `halfway keys delete`: a rule with its keys. */
export async function runKeysDelete(
  rule: string,
  options: KeysOptions,
  context: CommandContext,
): Promise<void> {
  const client = await openAdminClient(options, context);
  const { status } = await client.call('DELETE', rulePath(options, rule));
  if (status === 200) warnIfLost(client, context);
  if (options.json === true) return printJson({ deleted: status === 200 }, context);
  await writeLine(context.stdout, status === 200 ? `Deleted ${rule}` : `There was no ${rule}`);
}

/** `halfway keys renew`: replaces one key of a rule; the other one goes on. */
export async function runKeysRenew(
  rule: string,
  options: RenewOptions,
  context: CommandContext,
): Promise<void> {
  const keyType = keyTypeOf(options.key);
  const key = await givenKey(options.keyValueFile, context);
  const client = await openAdminClient(options, context);
  const { body } = await client.call('POST', `${rulePath(options, rule)}/regenerateKeys`, {
    body: { keyType, ...(key === undefined ? {} : { key }) },
  });
  warnIfLost(client, context);
  if (options.show === true) {
    await printKeys(body, options, context);
    return;
  }
  if (options.json === true) return printJson({ keyName: rule, renewed: keyType }, context);
  await writeLine(
    context.stdout,
    `Renewed the ${keyType === 'PrimaryKey' ? 'primary' : 'secondary'} key of ${rule}; ` +
      'tokens made with the old one are refused from now on',
  );
}

function rulesPath({ hyco }: KeysOptions): string {
  return `${hyco === undefined ? '' : hycoPath(hyco)}/authorizationRules`;
}

function rulePath(options: KeysOptions, rule: string): string {
  return `${rulesPath(options)}/${encodeURIComponent(rule)}`;
}

/** `primary`, or Azure's `PrimaryKey`. */
function keyTypeOf(text: string | undefined): 'PrimaryKey' | 'SecondaryKey' {
  const word = text?.toLowerCase().replace(/key$/, '');
  if (word === 'primary') return 'PrimaryKey';
  if (word === 'secondary') return 'SecondaryKey';
  throw usageError('Cannot tell which key: give --key primary or --key secondary');
}

async function givenKey(
  file: string | undefined,
  { stdin }: CommandContext,
): Promise<string | undefined> {
  if (file === undefined) return undefined;
  try {
    const text = file === '-' ? await readAll(stdin) : readFileSync(file, 'utf8');
    return text.replace(/\r?\n$/, '');
  } catch (error) {
    throw usageError(`Cannot read the key: ${messageOf(error)}`);
  }
}

async function printKeys(
  keys: unknown,
  options: AdminOptions,
  context: CommandContext,
): Promise<void> {
  if (options.json === true) return printJson(keys, context);
  const names = ['keyName', 'primaryKey', 'secondaryKey'];
  const rows = [...names, 'primaryConnectionString', 'secondaryConnectionString']
    .filter(name => textAt(keys, name) !== '')
    .map(name => [name, textAt(keys, name)]);
  await writeLine(context.stdout, tableOf(rows));
}

function capitalised(right: string): string {
  return `${right.slice(0, 1).toUpperCase()}${right.slice(1).toLowerCase()}`;
}
