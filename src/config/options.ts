import type { NamespaceDescription } from '../protocol/resources.ts';
import {
  addressRanges,
  DELAY_MS_MAX,
  filePath,
  hostNames,
  hostSuffix,
  hostToBind,
  longSecretText,
  meshAddress,
  namespaceName,
  nodeName,
  oneOf,
  origin,
  processCount,
  redisUrl,
  secretText,
  wholeNumber,
  yesOrNo,
  type Parse,
} from './parsers.ts';

export interface Option<Value> {
  readonly default: Value;
  readonly parse: Parse<Value>;
  /** How help names the value; absent for a switch. */
  readonly placeholder?: string;
  readonly unit?: 'ms' | 'bytes';
  readonly help: string;
  readonly group: OptionGroup;
  /** Comes from a variable or a file, never from a flag, and is never printed. */
  readonly secret?: true;
  /** Only `halfway dev` takes it. */
  readonly devOnly?: true;
}

export type OptionGroup =
  | 'Addresses'
  | 'TLS and proxies'
  | 'Cluster'
  | 'Time'
  | 'Limits'
  | 'Behaviour'
  | 'Job dispatch'
  | 'Logs';

/** uWebSockets.js takes idle times of 8 to 960 seconds. */
const KEEP_ALIVE_MS = { min: 8_000, max: 960_000 };
/** Rounds that follow each other faster would ask listeners that are not back yet. */
const REBALANCE_INTERVAL_MS_MIN = 1_000;
/** Largest size an option may ask for: sizes are counted in 32 bits here and there. */
const BYTES_MAX = 2 ** 31 - 1;
/** More processes than machines have cores for. */
const WORKERS_MAX = 64;
/** Largest number of anything that is counted. */
const COUNT_MAX = 10_000_000;

const port = wholeNumber(0, 65_535);
const delay = wholeNumber(0, DELAY_MS_MAX);
const timeout = wholeNumber(1, DELAY_MS_MAX);
const count = wholeNumber(1, COUNT_MAX);
const milliseconds = { placeholder: 'MS', unit: 'ms', group: 'Time' } as const;
const size = { placeholder: 'BYTES', unit: 'bytes', group: 'Limits' } as const;
const amount = { placeholder: 'N', parse: count, group: 'Limits' } as const;
const file = { placeholder: 'FILE', parse: filePath, default: undefined } as const;

/**
 * Every option of the server once. The type Config, the flags, the variables, the keys of the config file, help and
 * the table of the README all come from here; the names differ only in spelling (`requestTimeoutMs`,
 * `--request-timeout-ms`, `HALFWAY_REQUEST_TIMEOUT_MS`).
 */
export const OPTIONS = {
  config: {
    ...file,
    group: 'Addresses',
    help: 'YAML or JSON file with the namespaces; may hold the other options too.',
  },
  host: {
    placeholder: 'HOST',
    default: '0.0.0.0',
    parse: hostToBind,
    group: 'Addresses',
    help: 'Address of the public port.',
  },
  port: {
    placeholder: 'PORT',
    default: 8080,
    parse: port,
    group: 'Addresses',
    help: 'The public port: everything a client needs. 0 lets the system pick one.',
  },
  adminHost: {
    placeholder: 'HOST',
    default: '127.0.0.1',
    parse: hostToBind,
    group: 'Addresses',
    help: 'Address of the admin port. One that is not loopback requires the admin token.',
  },
  adminPort: {
    placeholder: 'PORT',
    default: 9090,
    parse: port,
    group: 'Addresses',
    help: 'The admin port: metrics, health, status, management. 0 lets the system pick one.',
  },
  adminToken: {
    placeholder: 'FILE',
    default: undefined,
    parse: secretText,
    group: 'Addresses',
    secret: true,
    help: 'Bearer token that the admin port asks for.',
  },
  nodeId: {
    placeholder: 'NAME',
    default: undefined,
    parse: nodeName,
    group: 'Addresses',
    help: 'Name of this node in logs and metrics; without it the host name.',
  },
  data: {
    placeholder: 'DIR',
    default: undefined,
    parse: filePath,
    group: 'Behaviour',
    help: 'Folder for what is made at run time, made if missing. Without it, that ends with the process.',
  },
  publicUrl: {
    placeholder: 'URL',
    default: undefined,
    parse: origin,
    group: 'Addresses',
    help: 'What listeners are told to dial; without it the scheme and Host that the listener used.',
  },
  tlsCert: {
    ...file,
    group: 'TLS and proxies',
    help: 'Certificate chain in PEM; makes the public port speak TLS. Read again on SIGHUP.',
  },
  tlsKey: { ...file, group: 'TLS and proxies', help: 'Private key of the certificate, in PEM.' },
  trustedProxies: {
    placeholder: 'RANGES',
    default: [],
    parse: addressRanges,
    group: 'TLS and proxies',
    help: 'Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, e.g. 10.0.0.0/8,fd00::/8.',
  },
  redis: {
    placeholder: 'URL',
    default: undefined,
    parse: redisUrl,
    group: 'Cluster',
    help: 'Redis that makes this node one of a cluster: redis[s]://…, redis[s]+sentinel://…, redis[s]+cluster://….',
  },
  redisPassword: {
    placeholder: 'FILE',
    default: undefined,
    parse: secretText,
    group: 'Cluster',
    secret: true,
    help: 'Password for Redis, in place of one in the URL.',
  },
  redisPrefix: {
    placeholder: 'NAME',
    default: 'halfway',
    parse: nodeName,
    group: 'Cluster',
    help: 'Prefix of all keys in Redis: one for each cluster that shares it.',
  },
  meshHost: {
    placeholder: 'HOST',
    default: '0.0.0.0',
    parse: hostToBind,
    group: 'Cluster',
    help: 'Address of the mesh port, on which the nodes of a cluster speak to each other.',
  },
  meshPort: {
    placeholder: 'PORT',
    default: 8070,
    parse: port,
    group: 'Cluster',
    help: 'The mesh port. 0 lets the system pick one.',
  },
  meshAdvertise: {
    placeholder: 'ADDRESS',
    default: undefined,
    parse: meshAddress,
    group: 'Cluster',
    help: 'host or host:port at which other nodes reach the mesh port; without it meshHost, or the host name.',
  },
  meshLocal: {
    placeholder: 'WHICH',
    default: 'on',
    parse: oneOf('on', 'off'),
    group: 'Cluster',
    help: "on: a listener's connection moves to the node of its sender when both share a machine; off: payload crosses by the mesh address, always.",
  },
  nodeUrl: {
    placeholder: 'URL',
    default: undefined,
    parse: origin,
    group: 'Cluster',
    help: 'Where listeners reach this very node, past the balancer: they are told to dial it, which saves the hop.',
  },
  rebalance: {
    placeholder: 'HOW',
    default: 'on',
    parse: oneOf('on', 'off'),
    group: 'Cluster',
    help: 'on: a node with clearly more listeners than its share asks some to connect again, so that new nodes get theirs.',
  },
  rebalanceIntervalMs: {
    ...milliseconds,
    default: 60_000,
    parse: wholeNumber(REBALANCE_INTERVAL_MS_MIN, DELAY_MS_MAX),
    group: 'Cluster',
    help: 'At most one round of it in this time: a fifth of its own, spread over a third of the time.',
  },
  meshSecret: {
    placeholder: 'FILE',
    default: undefined,
    parse: secretText,
    group: 'Cluster',
    secret: true,
    help: 'Secret that all nodes of a cluster share, at least 32 characters.',
  },
  meshCert: {
    ...file,
    group: 'Cluster',
    help: 'Certificate of this node for the mesh, in PEM, from an authority of its own (meshCa).',
  },
  meshKey: { ...file, group: 'Cluster', help: 'Private key of meshCert, in PEM.' },
  meshCa: {
    ...file,
    group: 'Cluster',
    help: 'Authority that all mesh certificates come from, in PEM.',
  },
  requestTimeoutMs: {
    ...milliseconds,
    default: 60_000,
    parse: timeout,
    help: 'How long a listener may take to begin its answer to an HTTP request (then 504).',
  },
  responseIdleTimeoutMs: {
    ...milliseconds,
    default: 60_000,
    parse: timeout,
    help: 'How long an answer that has begun may be silent before it is cut.',
  },
  acceptTimeoutMs: {
    ...milliseconds,
    default: 30_000,
    parse: timeout,
    help: 'How long a listener may take to dial the address of an offered connection (then 504).',
  },
  listenerWaitMs: {
    ...milliseconds,
    default: 250,
    parse: delay,
    help: 'In a cluster, how long a sender waits for a listener that may just have connected elsewhere (then 404).',
  },
  tokenGraceMs: {
    ...milliseconds,
    default: 300_000,
    parse: delay,
    help: 'How long a control channel outlives its token: some clients renew only after expiry.',
  },
  keepAliveMs: {
    ...milliseconds,
    default: 30_000,
    parse: wholeNumber(KEEP_ALIVE_MS.min, KEEP_ALIVE_MS.max),
    help: 'Silence after which a control channel is pinged.',
  },
  lingerMs: {
    ...milliseconds,
    default: 10_000,
    parse: delay,
    help: 'How long a connection that is closing may take to be closed by its peer too.',
  },
  pollHoldMs: {
    ...milliseconds,
    default: 25_000,
    parse: timeout,
    help: 'How long a long-poll is held when there is nothing to answer; proxies cut what is silent for longer.',
  },
  pollSessionTimeoutMs: {
    ...milliseconds,
    default: 60_000,
    parse: timeout,
    help: 'A long-poll session that nobody polls for this long is over.',
  },
  stallTimeoutMs: {
    ...milliseconds,
    default: 0,
    parse: delay,
    help: 'A reader that takes nothing for this long is cut; 0 is never.',
  },
  drainDelayMs: {
    ...milliseconds,
    default: 2_000,
    parse: delay,
    help: 'On SIGTERM, time for the load balancer to notice before the port closes.',
  },
  drainPort: {
    placeholder: 'HOW',
    default: 'open',
    parse: oneOf('open', 'closed'),
    group: 'Time',
    help: 'On SIGTERM, closed: new connections are refused at once, for a balancer that asks for no health, as nginx.',
  },
  drainTimeoutMs: {
    ...milliseconds,
    default: 30_000,
    parse: delay,
    help: 'On SIGTERM, time for open connections to finish before they are cut.',
  },
  listenersMax: {
    ...amount,
    default: 25,
    help: 'Listeners of one hybrid connection at once; one more is refused.',
  },
  hybridConnectionsMax: {
    ...amount,
    default: 10_000,
    help: 'Hybrid connections of all namespaces together.',
  },
  sendersMax: {
    ...amount,
    default: 50_000,
    help: 'Senders at once: waiting, joined, and HTTP requests in flight; one more is refused.',
  },
  pollSessionsMax: {
    ...amount,
    default: 20_000,
    help: 'Long-poll sessions at once; one more is refused (503).',
  },
  pollWindowBytes: {
    ...size,
    default: 1_048_576,
    // Two of the longest frames have to fit.
    parse: wholeNumber(262_144, BYTES_MAX),
    help: 'What the client of a long-poll session may send before any of it is read.',
  },
  pollBufferBytesMax: {
    ...size,
    default: 1_048_576,
    parse: wholeNumber(65_536, BYTES_MAX),
    help: 'What may wait for the client of a long-poll session before its other side is paused.',
  },
  controlQueueBytesMax: {
    ...size,
    default: 1_048_576,
    parse: wholeNumber(65_536, BYTES_MAX),
    help: 'What may wait to be sent on one control channel; a slower listener is passed over.',
  },
  controlMessageBytesMax: {
    ...size,
    default: 65_536,
    parse: wholeNumber(1_024, 16_777_216),
    help: 'Largest message that a listener may send on its control channel.',
  },
  bodyBufferBytesMax: {
    ...size,
    default: 262_144,
    parse: wholeNumber(65_536, BYTES_MAX),
    help: 'HTTP body bytes held per request and direction before the writer is paused.',
  },
  messageBytesMax: {
    ...size,
    default: 0,
    parse: wholeNumber(0, Number.MAX_SAFE_INTEGER),
    help: 'Largest WebSocket message that is relayed; 0 is no limit.',
  },
  fallbackMessageBytesMax: {
    ...size,
    default: 16_777_216,
    parse: wholeNumber(1_024, BYTES_MAX),
    help: 'The same where the native data plane is missing: messages are held whole there.',
  },
  fallbackQueueBytesMax: {
    ...size,
    default: 4_194_304,
    parse: wholeNumber(65_536, BYTES_MAX),
    help: 'What may wait for a slow reader where the native data plane is missing (then close 1011).',
  },
  entityLabelsMax: {
    ...amount,
    default: 200,
    help: 'Hybrid connections with a label of their own in metrics; the others share "_other".',
  },
  encodedSlashes: {
    placeholder: 'HOW',
    default: 'refuse',
    parse: oneOf('refuse', 'pass'),
    group: 'Behaviour',
    help: 'What happens to a path with %2F or %5C: refuse (400) or pass it on.',
  },
  dataPlane: {
    placeholder: 'WHICH',
    default: 'auto',
    parse: oneOf('auto', 'native', 'messages'),
    group: 'Behaviour',
    help: 'auto: native where it works; native: refuse to start without it; messages: never native.',
  },
  workers: {
    placeholder: 'N',
    default: 1,
    parse: processCount(WORKERS_MAX),
    group: 'Behaviour',
    help: 'Processes that share the public port, to use several cores; auto: one for each core.',
  },
  autoCreate: {
    default: false,
    parse: yesOrNo,
    group: 'Behaviour',
    devOnly: true,
    help: 'Hybrid connections come into being when a listener opens them.',
  },
  dispatch: {
    default: false,
    parse: yesOrNo,
    group: 'Job dispatch',
    help: 'Serves job dispatch under /$api/: machines, connections, runs. Keeps its records in data, or in Redis.',
  },
  dispatchNamespace: {
    placeholder: 'NAME',
    default: undefined,
    parse: namespaceName,
    group: 'Job dispatch',
    help: 'Namespace in which machines get their hybrid connections; without it the first.',
  },
  portalHost: {
    placeholder: 'NAMES',
    default: [],
    parse: hostNames,
    group: 'Job dispatch',
    help: 'Host names that serve the web portal (and /$api/) and nothing else, so that what listeners serve has another origin.',
  },
  relaySuffix: {
    placeholder: 'SUFFIX',
    default: undefined,
    parse: hostSuffix,
    group: 'Job dispatch',
    help: 'What the names of this deployment end with, for firewalls: published at /$api/v1/endpoints; without it the host.',
  },
  publishedAddresses: {
    placeholder: 'RANGES',
    default: [],
    parse: addressRanges,
    group: 'Job dispatch',
    help: 'Addresses that machines reach this deployment at, for firewalls: published at /$api/v1/endpoints.',
  },
  apiToken: {
    placeholder: 'FILE',
    default: undefined,
    parse: longSecretText,
    group: 'Job dispatch',
    secret: true,
    help: 'API token of the first administrator, at least 32 characters; without it only tokens made before are taken.',
  },
  logLevel: {
    placeholder: 'LEVEL',
    default: 'info',
    parse: oneOf('debug', 'info', 'warn', 'error', 'fatal'),
    group: 'Logs',
    help: 'Least level that is logged: debug, info, warn, error, fatal.',
  },
  logFormat: {
    placeholder: 'FORMAT',
    default: 'json',
    parse: oneOf('json', 'pretty'),
    group: 'Logs',
    help: 'json: one object a line; pretty: for people.',
  },
} as const satisfies Record<string, Option<unknown>>;

export type OptionName = keyof typeof OPTIONS;

type ValueOf<Entry> = Entry extends {
  readonly default: infer Default;
  readonly parse: infer P;
}
  ? P extends Parse<infer Value>
    ? Value | (Default extends undefined ? undefined : never)
    : never
  : never;

type Declared = { readonly [Name in OptionName]: ValueOf<(typeof OPTIONS)[Name]> };

/** All options with their values; a node without a name has got the host's. */
export type OptionValues = Omit<Declared, 'nodeId'> & { readonly nodeId: string };

/** What the server runs with: frozen, never changed after loading. */
export type Config = OptionValues & {
  readonly namespaces: readonly NamespaceDescription[];
};

/** What `halfway dev` sets differently: on loopback, nothing to prepare, gone at once on Ctrl-C. */
export const DEV_DEFAULTS = {
  host: '127.0.0.1',
  autoCreate: true,
  dispatch: true,
  drainDelayMs: 0,
  drainTimeoutMs: 1_000,
} as const satisfies Partial<Record<OptionName, unknown>>;

/** One option with all its spellings. */
export interface NamedOption extends Option<unknown> {
  readonly name: OptionName;
  /** `--request-timeout-ms`; of a secret `--admin-token-file`. */
  readonly flag: string;
  /** `HALFWAY_REQUEST_TIMEOUT_MS`; of a secret also this with `_FILE`. */
  readonly env: string;
}

export const optionList: readonly NamedOption[] = Object.entries<Option<unknown>>(OPTIONS).flatMap(
  ([name, option]) =>
    isOptionName(name) ? [{ ...option, name, flag: flagOf(name, option), env: envOf(name) }] : [],
);

export function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(OPTIONS, name);
}

function flagOf(name: OptionName, option: Option<unknown>): string {
  const words = name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`);
  return `--${words}${option.secret === true ? '-file' : ''}`;
}

function envOf(name: OptionName): string {
  return `HALFWAY_${name.replace(/[A-Z]/g, letter => `_${letter}`).toUpperCase()}`;
}
