/** One server's address, as a URL names it. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Where Redis is and how it is reached; secrets apart from what may be shown. */
export interface RedisTarget {
  readonly kind: 'single' | 'sentinel' | 'cluster';
  readonly tls: boolean;
  /** The server; or the Sentinels; or some nodes of the Redis Cluster. At least one, at most `HOSTS_MAX`. */
  readonly hosts: readonly HostPort[];
  /** Name of the master that the Sentinels watch; '' otherwise. */
  readonly master: string;
  /** Logical database; always 0 on a Redis Cluster. */
  readonly database: number;
  readonly username?: string;
  readonly password?: string;
  /** The URL without user and password: for logs and messages. */
  readonly shown: string;
}

export type ParsedRedisUrl = { readonly target: RedisTarget } | { readonly fault: string };

const HOSTS_MAX = 32;
const DATABASE_MAX = 999_999;
const PORTS = { single: 6379, sentinel: 26_379, cluster: 6379 } as const;
const URL_FORM =
  /^(?<scheme>rediss?)(?:\+(?<kind>sentinel|cluster))?:\/\/(?:(?<user>[^@]*)@)?(?<hosts>[^/?#@]+)(?:\/(?<path>[^?#]*))?$/;
const HOST = /^(?:\[(?<v6>[0-9A-Fa-f:.]+)\]|(?<name>[A-Za-z0-9._-]+))(?::(?<port>\d{1,5}))?$/;
const MASTER = /^[A-Za-z0-9._-]{1,128}$/;

/** The forms, for help and for messages. */
export const REDIS_URL_FORMS =
  'redis[s]://[user:password@]host[:6379][/db], ' +
  'redis[s]+sentinel://[user:password@]host[:26379],…/master[/db] or ' +
  'redis[s]+cluster://[user:password@]host[:6379],…';

/**
 * Reads a Redis URL. `rediss` means TLS, on every connection, to the Sentinels too. User and password
 * are percent-encoded and belong to Redis itself; those of Sentinels are an option of the client.
 * Faults never show the part before the `@`.
 */
export function parseRedisUrl(text: string): ParsedRedisUrl {
  const groups = URL_FORM.exec(text)?.groups;
  if (groups === undefined) return { fault: `must be ${REDIS_URL_FORMS}` };
  const kind = groups['kind'] === undefined ? 'single' : asKind(groups['kind']);
  const tls = groups['scheme'] === 'rediss';

  const hosts = (groups['hosts'] ?? '').split(',').map(part => parseHost(part, PORTS[kind]));
  if (!hosts.every(host => host !== undefined)) {
    return { fault: 'must name hosts as host, host:port or [IPv6]:port, separated by commas' };
  }
  if (hosts.length > HOSTS_MAX) return { fault: `must name at most ${HOSTS_MAX} hosts` };
  if (kind === 'single' && hosts.length > 1) {
    return { fault: 'names several hosts: say redis+sentinel:// or redis+cluster://' };
  }

  const path = parsePath(kind, groups['path'] ?? '');
  if ('fault' in path) return path;
  const login = parseLogin(groups['user']);
  if (login === undefined) {
    return { fault: 'must have user and password percent-encoded before the @' };
  }
  const where = `${hosts.map(formatHost).join(',')}${path.shown}`;
  const scheme = `${tls ? 'rediss' : 'redis'}${kind === 'single' ? '' : `+${kind}`}`;
  const { master, database } = path;
  return {
    target: { kind, tls, hosts, master, database, ...login, shown: `${scheme}://${where}` },
  };
}

function asKind(text: string): 'sentinel' | 'cluster' {
  return text === 'sentinel' ? 'sentinel' : 'cluster';
}

function parseHost(text: string, defaultPort: number): HostPort | undefined {
  const groups = HOST.exec(text)?.groups;
  const host = groups?.['v6'] ?? groups?.['name'];
  if (host === undefined) return undefined;
  const port = Number(groups?.['port'] ?? defaultPort);
  return port >= 1 && port <= 65_535 ? { host, port } : undefined;
}

function formatHost({ host, port }: HostPort): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

type ParsedPath =
  | { readonly master: string; readonly database: number; readonly shown: string }
  | { readonly fault: string };

function parsePath(kind: RedisTarget['kind'], path: string): ParsedPath {
  if (kind === 'cluster') {
    if (path === '' || path === '0') return { master: '', database: 0, shown: '' };
    return { fault: 'must have no path: a Redis Cluster has database 0 only' };
  }
  const parts = path.split('/');
  const master = kind === 'sentinel' ? (parts.shift() ?? '') : '';
  if (kind === 'sentinel' && !MASTER.test(master)) {
    return { fault: 'must end in the name of the master that the Sentinels watch: …/mymaster' };
  }
  const [digits = ''] = parts;
  const database = digits === '' ? 0 : Number(digits);
  if (parts.length > 1 || !/^\d*$/.test(digits) || database > DATABASE_MAX) {
    return { fault: 'must have a whole number as database' };
  }
  const shown = `${kind === 'sentinel' ? `/${master}` : ''}${database === 0 ? '' : `/${database}`}`;
  return { master, database, shown };
}

interface Login {
  readonly username?: string;
  readonly password?: string;
}

function parseLogin(text: string | undefined): Login | undefined {
  if (text === undefined) return {};
  const colon = text.indexOf(':');
  const username = decoded(colon === -1 ? text : text.slice(0, colon));
  const password = colon === -1 ? '' : decoded(text.slice(colon + 1));
  if (username === undefined || password === undefined) return undefined;
  return { ...(username === '' ? {} : { username }), ...(password === '' ? {} : { password }) };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    // Malformed percent-encoding: the caller says so without showing the text.
    return undefined;
  }
}
