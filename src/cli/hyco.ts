import {
  fieldAt,
  listIn,
  openAdminClient,
  tableOf,
  textAt,
  warnIfLost,
  type AdminOptions,
} from './admin-client.ts';
import { usageError } from './command-error.ts';
import { printJson, writeLine, type CommandContext } from './context.ts';

export interface HycoSettings extends AdminOptions {
  readonly requiresClientAuthorization?: string;
  readonly userMetadata?: string;
}

/** `halfway hyco list`: the hybrid connections of a namespace. */
export async function runHycoList(options: AdminOptions, context: CommandContext): Promise<void> {
  const client = await openAdminClient(options, context);
  const { body } = await client.call('GET', '/hybridConnections');
  if (options.json === true) return printJson(listIn(body), context);
  const rows = listIn(body).map(one => {
    const properties = fieldAt(one, 'properties');
    return [
      textAt(one, 'name'),
      textAt(properties, 'listenerCount'),
      textAt(properties, 'requiresClientAuthorization') === 'false' ? 'anyone' : 'with token',
      textAt(properties, 'definedBy'),
    ];
  });
  if (rows.length === 0) {
    context.stderr.write(`There are no hybrid connections in ${client.namespace}\n`);
    return;
  }
  await writeLine(
    context.stdout,
    tableOf([['NAME', 'LISTENERS', 'SENDERS', 'DEFINED BY'], ...rows]),
  );
}

/** `halfway hyco show`. */
export async function runHycoShow(
  name: string,
  options: AdminOptions,
  context: CommandContext,
): Promise<void> {
  const client = await openAdminClient(options, context);
  await print((await client.call('GET', hycoPath(name))).body, options, context);
}

/** `halfway hyco create`: refuses what is there already. */
export async function runHycoCreate(
  name: string,
  options: HycoSettings,
  context: CommandContext,
): Promise<void> {
  const body = { properties: settingsIn(options) };
  const client = await openAdminClient(options, context);
  const answer = await client.call('PUT', hycoPath(name), { body, ifNoneMatch: '*' });
  warnIfLost(client, context);
  await print(answer.body, options, context);
}

/** `halfway hyco update`: changes what is given, and nothing else, and only as it was read. */
export async function runHycoUpdate(
  name: string,
  options: HycoSettings,
  context: CommandContext,
): Promise<void> {
  const changes = settingsIn(options);
  if (Object.keys(changes).length === 0) {
    throw usageError('Nothing to change: give --requires-client-authorization or --user-metadata');
  }
  const client = await openAdminClient(options, context);
  const { body: known, etag } = await client.call('GET', hycoPath(name));
  const properties = fieldAt(known, 'properties');
  const answer = await client.call('PUT', hycoPath(name), {
    ...(etag === undefined ? {} : { ifMatch: etag }),
    body: {
      properties: {
        requiresClientAuthorization: fieldAt(properties, 'requiresClientAuthorization'),
        userMetadata: fieldAt(properties, 'userMetadata'),
        ...changes,
      },
    },
  });
  warnIfLost(client, context);
  await print(answer.body, options, context);
}

/** `halfway hyco delete`: ends what is connected. What is not there is deleted already. */
export async function runHycoDelete(
  name: string,
  options: AdminOptions,
  context: CommandContext,
): Promise<void> {
  const client = await openAdminClient(options, context);
  const { status } = await client.call('DELETE', hycoPath(name));
  if (status === 200) warnIfLost(client, context);
  if (options.json === true) return printJson({ deleted: status === 200 }, context);
  await writeLine(context.stdout, status === 200 ? `Deleted ${name}` : `There was no ${name}`);
}

/** Path of a hybrid connection below its namespace. */
export function hycoPath(name: string): string {
  return `/hybridConnections/${encodeURIComponent(name)}`;
}

function settingsIn({ requiresClientAuthorization, userMetadata }: HycoSettings): object {
  if (
    requiresClientAuthorization !== undefined &&
    !['true', 'false'].includes(requiresClientAuthorization)
  ) {
    throw usageError('Cannot read --requires-client-authorization: it must be true or false');
  }
  return {
    ...(requiresClientAuthorization === undefined
      ? {}
      : { requiresClientAuthorization: requiresClientAuthorization === 'true' }),
    ...(userMetadata === undefined ? {} : { userMetadata }),
  };
}

async function print(
  resource: unknown,
  options: AdminOptions,
  context: CommandContext,
): Promise<void> {
  if (options.json === true) return printJson(resource, context);
  const properties = fieldAt(resource, 'properties');
  const rows = [
    ['name', textAt(resource, 'name')],
    ...Object.keys(typeof properties === 'object' && properties !== null ? properties : {}).map(
      name => [name, textAt(properties, name)],
    ),
  ];
  await writeLine(context.stdout, tableOf(rows));
}
