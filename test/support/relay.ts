import type { Clock } from '../../src/base/clock.ts';
import type { Logger } from '../../src/base/logger.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Config, OptionName } from '../../src/config/options.ts';
import { signToken } from '../../src/auth/sign-token.ts';
import type { NamespaceDescription } from '../../src/protocol/resources.ts';
import { startServer, type RunningServer } from '../../src/server.ts';

export const ROOT_KEY = 'MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';
export const LISTEN_KEY = 'bGlzdGVuLW9ubHkta2V5LWZvci10ZXN0cy0xMjM0NTY=';
export const SEND_KEY = 'c2VuZC1vbmx5LWtleS1mb3ItdGVzdHMtMTIzNDU2Nzg=';

/** One namespace for every Host, with what most tests need: `hyco`, `open` (anonymous senders), `a` and `a/b`. */
export const NAMESPACE: NamespaceDescription = {
  name: 'tests',
  hosts: [],
  authorizationRules: [
    { name: 'root', rights: ['Listen', 'Send', 'Manage'], primaryKey: ROOT_KEY },
    { name: 'listener', rights: ['Listen'], primaryKey: LISTEN_KEY },
    { name: 'sender', rights: ['Send'], primaryKey: SEND_KEY },
  ],
  hybridConnections: ['hyco', 'open', 'a', 'a/b'].map(name => ({
    name,
    requiresClientAuthorization: name !== 'open',
    userMetadata: '',
    authorizationRules: [],
  })),
};

/** A log kept in memory, one line of JSON an entry, so that tests can look for what must not be there. */
export class MemoryLog implements Logger {
  readonly lines: string[] = [];
  debug = (fields: object, message: string): void => this.#add('debug', fields, message);
  info = (fields: object, message: string): void => this.#add('info', fields, message);
  warn = (fields: object, message: string): void => this.#add('warn', fields, message);
  error = (fields: object, message: string): void => this.#add('error', fields, message);

  #add(level: string, fields: object, msg: string): void {
    this.lines.push(JSON.stringify({ level, msg, ...fields }));
  }
}

export interface TestRelay extends AsyncDisposable {
  readonly server: RunningServer;
  readonly log: MemoryLog;
  readonly port: number;
  /** `http://127.0.0.1:port` of the admin port. */
  readonly adminUrl: string;
  readonly httpUrl: string;
  readonly wsUrl: string;
  /** A token for a path below the namespace, an hour from now unless told otherwise. */
  token(path?: string, options?: TokenOptions): string;
  /** Value of one line of /metrics, as `name{label="value"}`; 0 when it is not there. */
  metric(series: string): Promise<number>;
}

export interface TokenOptions {
  readonly rule?: 'root' | 'listener' | 'sender';
  /** Seconds from now. */
  readonly ttlSec?: number;
}

/** Options by their names in config/options.ts. */
export type RelayOptions = Readonly<Partial<Record<OptionName, string | number | boolean>>>;

/** A whole server in this process on ports of its own. `options` are config options by their names. */
export async function startRelay(
  options: RelayOptions = {},
  deps: {
    readonly clock?: Clock;
    readonly namespaces?: readonly NamespaceDescription[];
    readonly portalFolder?: string;
  } = {},
): Promise<TestRelay> {
  const log = new MemoryLog();
  const config: Config = { ...baseConfig(options), namespaces: deps.namespaces ?? [NAMESPACE] };
  const { namespaces: _namespaces, ...others } = deps;
  const server = await startServer(config, { log, ...others });
  return relayAt(server, { server, log });
}

/** How clients reach a node, or a balancer before several. */
export function relayAt(
  place: { readonly port: number; readonly adminPort: number; readonly tls?: boolean },
  inside: { readonly server: RunningServer; readonly log: MemoryLog },
): TestRelay {
  const authority = `127.0.0.1:${place.port}`;
  const secure = place.tls === true ? 's' : '';
  const adminUrl = `http://127.0.0.1:${place.adminPort}`;
  return {
    ...inside,
    port: place.port,
    adminUrl,
    httpUrl: `http${secure}://${authority}`,
    wsUrl: `ws${secure}://${authority}`,
    token: (path = 'hyco', { rule = 'root', ttlSec = 3600 } = {}) =>
      signToken({
        audience: `http://127.0.0.1/${path}`,
        keyName: rule,
        key: { root: ROOT_KEY, listener: LISTEN_KEY, sender: SEND_KEY }[rule],
        expiresAtSec: Math.floor(Date.now() / 1000) + ttlSec,
      }),
    async metric(series) {
      const text = await (await fetch(`${adminUrl}/metrics`)).text();
      const line = text.split('\n').find(one => one.startsWith(`${series} `));
      return line === undefined ? 0 : Number(line.slice(series.length + 1));
    },
    [Symbol.asyncDispose]: () => inside.server.stop(),
  };
}

function baseConfig(options: RelayOptions): Config {
  const { adminToken, apiToken, ...others } = options;
  const flags = { port: 0, adminPort: 0, autoCreate: false, dispatch: false, ...others };
  const loaded = loadConfig({
    purpose: 'dev',
    flags: Object.fromEntries(Object.entries(flags).map(([name, value]) => [name, String(value)])),
    env: {
      ...(adminToken === undefined ? {} : { HALFWAY_ADMIN_TOKEN: String(adminToken) }),
      ...(apiToken === undefined ? {} : { HALFWAY_API_TOKEN: String(apiToken) }),
    },
    readFile: path => {
      throw new Error(`Unexpected read of ${path}`);
    },
    hostName: 'test-node',
  });
  if ('faults' in loaded) throw new Error(loaded.faults.join('\n'));
  return loaded.config;
}
