import { isEntityName } from './request-path.ts';

/** Where a relay is, as the `Endpoint` of a connection string says it. */
export interface RelayEndpoint {
  /** `sb` and `https` mean TLS, as Azure's clients have it; `http` is our explicit form without. */
  readonly scheme: 'sb' | 'https' | 'http';
  /** Lower case; IPv6 addresses in brackets. */
  readonly host: string;
  /** Given, or the scheme's own: 443, or 80 for `http`. */
  readonly port: number;
}

export interface ConnectionString {
  readonly endpoint: RelayEndpoint;
  /** Name of a hybrid connection; absent: the whole namespace. */
  readonly entityPath?: string;
  /** A rule's name and key come together, or not at all. */
  readonly sharedAccessKeyName?: string;
  readonly sharedAccessKey?: string;
  /** A ready-made token in the key's place. */
  readonly sharedAccessSignature?: string;
  readonly operationTimeoutMs?: number;
}

type Parsed =
  | { readonly ok: true; readonly value: ConnectionString }
  | { readonly ok: false; readonly faults: readonly string[] };

const KEYS = [
  'Endpoint',
  'EntityPath',
  'SharedAccessKeyName',
  'SharedAccessKey',
  'SharedAccessSignature',
  'OperationTimeout',
  'Authentication',
];
const SPELLINGS: ReadonlyMap<string, string> = new Map(KEYS.map(key => [key.toLowerCase(), key]));

/** As in the libraries, which take no longer names and keys. */
const KEY_CHARS_MAX = 256;

/**
 * Parses `Endpoint=sb://host[:port]/;SharedAccessKeyName=…;SharedAccessKey=…[;EntityPath=…]`: fields
 * separated by `;`, keys in any case, values split off at the first `=`. All faults are told at once,
 * and none of them repeats a value, which may be a secret. Source: protocol reference 2.10.
 */
export function parseConnectionString(text: string): Parsed {
  const faults: string[] = [];
  const fields = fieldsOf(text, faults);

  const endpointText = fields.get('Endpoint');
  const endpoint = endpointText === undefined ? undefined : parseEndpoint(endpointText);
  if (endpointText === undefined) faults.push('Endpoint is missing');
  else if (endpoint === undefined) {
    faults.push('Endpoint must be sb://HOST[:PORT]/, https://… or http://…');
  }

  const entityPath = fields.get('EntityPath');
  if (entityPath !== undefined && !isEntityName(entityPath)) {
    faults.push('EntityPath is not a name that a hybrid connection can have');
  }
  checkCredentials(fields, faults);

  const timeoutText = fields.get('OperationTimeout');
  const operationTimeoutMs = timeoutText === undefined ? undefined : timeSpanMs(timeoutText);
  if (timeoutText !== undefined && operationTimeoutMs === undefined) {
    faults.push('OperationTimeout must be a time such as 00:01:00, or whole seconds');
  }

  if (endpoint === undefined || faults.length > 0) return { ok: false, faults };
  const sharedAccessKeyName = fields.get('SharedAccessKeyName');
  const sharedAccessKey = fields.get('SharedAccessKey');
  const sharedAccessSignature = fields.get('SharedAccessSignature');
  return {
    ok: true,
    value: {
      endpoint,
      ...(entityPath !== undefined && { entityPath }),
      ...(sharedAccessKeyName !== undefined && { sharedAccessKeyName }),
      ...(sharedAccessKey !== undefined && { sharedAccessKey }),
      ...(sharedAccessSignature !== undefined && { sharedAccessSignature }),
      ...(operationTimeoutMs !== undefined && { operationTimeoutMs }),
    },
  };
}

function fieldsOf(text: string, faults: string[]): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const [i, part] of text.split(';').entries()) {
    if (part.trim() === '') continue;
    const equals = part.indexOf('=');
    const key = SPELLINGS.get(part.slice(0, Math.max(0, equals)).trim().toLowerCase());
    const value = part.slice(equals + 1).trim();
    if (key === undefined)
      faults.push(`Part ${i + 1} does not begin with one of ${KEYS.join(', ')}`);
    else if (fields.has(key)) faults.push(`${key} is given more than once`);
    else if (value === '') faults.push(`${key} is empty`);
    else fields.set(key, value);
  }
  return fields;
}

function checkCredentials(fields: ReadonlyMap<string, string>, faults: string[]): void {
  const hasName = fields.has('SharedAccessKeyName');
  const hasKey = fields.has('SharedAccessKey');
  if (hasName !== hasKey) {
    faults.push('SharedAccessKeyName and SharedAccessKey must be given together');
  }
  if (fields.has('SharedAccessSignature') && (hasName || hasKey)) {
    faults.push('SharedAccessSignature cannot stand beside SharedAccessKeyName or SharedAccessKey');
  }
  if (fields.has('Authentication')) {
    faults.push('Authentication by Microsoft Entra is not supported: use a shared access key');
  }
  for (const key of ['SharedAccessKeyName', 'SharedAccessKey']) {
    if ((fields.get(key)?.length ?? 0) > KEY_CHARS_MAX) {
      faults.push(`${key} is longer than ${KEY_CHARS_MAX} characters`);
    }
  }
}

const ENDPOINT = /^(sb|https?):\/\/(\[[0-9a-f:.]+\]|[^\s/?#:@[\]\\;=]+)(?::(\d{1,5}))?\/?$/i;

/** Reads `sb://host[:port]/`; undefined when it is anything else, a path included. */
export function parseEndpoint(text: string): RelayEndpoint | undefined {
  const match = ENDPOINT.exec(text);
  if (match === null) return undefined;
  const [, schemeText = '', host = '', portText] = match;
  const scheme = schemeOf(schemeText.toLowerCase());
  const port = portText === undefined ? (scheme === 'http' ? 80 : 443) : Number(portText);
  if (port < 1 || port > 65_535) return undefined;
  return { scheme, host: host.toLowerCase(), port };
}

function schemeOf(text: string): RelayEndpoint['scheme'] {
  return text === 'http' || text === 'https' ? text : 'sb';
}

/** `http://host:port` or `https://host:port`, for HTTP requests. */
export function httpOrigin(endpoint: RelayEndpoint): string {
  return `${endpoint.scheme === 'http' ? 'http' : 'https'}://${endpoint.host}:${endpoint.port}`;
}

/** `ws://host:port` or `wss://host:port`, for WebSockets. */
export function webSocketOrigin(endpoint: RelayEndpoint): string {
  return `${endpoint.scheme === 'http' ? 'ws' : 'wss'}://${endpoint.host}:${endpoint.port}`;
}

/** .NET's `[d.]hh:mm:ss[.fff]`, or Java's whole seconds. */
function timeSpanMs(text: string): number | undefined {
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1_000;
  const match = /^(?:(\d{1,5})\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7}))?)?$/.exec(text);
  if (match === null) return undefined;
  const [, days = '0', hours = '0', minutes = '0', seconds = '0', fraction = '0'] = match;
  if (Number(hours) > 23 || Number(minutes) > 59 || Number(seconds) > 59) return undefined;
  const minutesInAll = (Number(days) * 24 + Number(hours)) * 60 + Number(minutes);
  return (
    minutesInAll * 60_000 + Number(seconds) * 1_000 + Math.trunc(Number(`0.${fraction}`) * 1_000)
  );
}

/** Writes a connection string that `parseConnectionString` and Azure's clients read. */
export function formatConnectionString(value: ConnectionString): string {
  const { scheme, host, port } = value.endpoint;
  const ownPort = scheme === 'http' ? 80 : 443;
  const parts = [`Endpoint=${scheme}://${host}${port === ownPort ? '' : `:${port}`}/`];
  if (value.sharedAccessKeyName !== undefined) {
    parts.push(`SharedAccessKeyName=${value.sharedAccessKeyName}`);
  }
  if (value.sharedAccessKey !== undefined) parts.push(`SharedAccessKey=${value.sharedAccessKey}`);
  if (value.sharedAccessSignature !== undefined) {
    parts.push(`SharedAccessSignature=${value.sharedAccessSignature}`);
  }
  if (value.operationTimeoutMs !== undefined) {
    parts.push(`OperationTimeout=${timeSpanText(value.operationTimeoutMs)}`);
  }
  if (value.entityPath !== undefined) parts.push(`EntityPath=${value.entityPath}`);
  return parts.join(';');
}

function timeSpanText(ms: number): string {
  const seconds = Math.floor(ms / 1_000);
  const [days, hours] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3_600) % 24];
  const clock = [hours, Math.floor(seconds / 60) % 60, seconds % 60]
    .map(part => String(part).padStart(2, '0'))
    .join(':');
  const fraction = ms % 1_000 === 0 ? '' : `.${String(ms % 1_000).padStart(3, '0')}`;
  return `${days === 0 ? '' : `${days}.`}${clock}${fraction}`;
}
