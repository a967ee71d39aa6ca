import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCertificate } from './certificate.ts';
import { accepts, freePort } from './ports.ts';
import { until } from './within.ts';

export const CLUSTER_PROXIES = ['haproxy', 'nginx'] as const;
export type ClusterProxyName = (typeof CLUSTER_PROXIES)[number];

export interface ClusterProxyOptions {
  /** False: plain TCP in place of TLS, for clients that want `ws:`. */
  readonly tls?: boolean;
  /** HAProxy says by PROXY v2, and not by `X-Forwarded-For`, who the client is. */
  readonly proxyProtocol?: boolean;
  /** How often HAProxy looks whether a node can work; as shipped unless given. */
  readonly checkMs?: number;
}

/** The shipped configuration for three nodes, run by the program it is for. */
export interface ClusterProxy extends AsyncDisposable {
  readonly port: number;
  /** Ports of the nodes that HAProxy takes for able to work. */
  up(): Promise<readonly number[]>;
}

const DEPLOY = join(import.meta.dirname, '../../deploy');
/** Debian's daemons live there, and the PATH of people who are not root leaves it out. */
const ENVIRONMENT = {
  ...process.env,
  PATH: `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin`,
};
const START_MS = 10_000;
const TLS_BIND = ' ssl crt "$HALFWAY_CERT" alpn http/1.1';
const TLS_LISTEN = ' ssl so_keepalive';

/** Made once in a process, which may start hundreds of balancers. */
let pems: { readonly cert: string; readonly key: string } | undefined;
/** Configurations that their program has found to be good. */
const checked = new Set<string>();

function makePems(): { readonly cert: string; readonly key: string } {
  using certificate = makeCertificate();
  return {
    cert: readFileSync(certificate.certFile, 'utf8'),
    key: readFileSync(certificate.keyFile, 'utf8'),
  };
}

/** Stands before three ports of loopback, on which nodes listen now or later. */
export async function startClusterProxy(
  name: ClusterProxyName,
  nodePorts: readonly number[],
  options: ClusterProxyOptions = {},
): Promise<ClusterProxy> {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-balancer-'));
  const { cert, key } = (pems ??= makePems());
  const both = join(folder, 'both.pem');
  writeFileSync(both, `${cert}${key}`, { mode: 0o600 });
  writeFileSync(join(folder, 'key.pem'), key, { mode: 0o600 });
  const [port, statsPort] = [await freePort(), await freePort()];
  const place: Place = { folder, both, port, statsPort, nodePorts };
  const { check, run, environment } =
    name === 'haproxy' ? haproxy(place, options) : nginx(place, options);
  const env = { ...ENVIRONMENT, ...environment };
  const kind = JSON.stringify([name, options]);
  if (!checked.has(kind)) execFileSync(name, check, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  checked.add(kind);
  const child = spawn(name, run, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = once(child, 'exit');
  await until(
    `${name} listens`,
    () => {
      if (child.exitCode !== null) throw new Error(`${name} has ended: ${said}`);
      return accepts(port);
    },
    START_MS,
  );
  return {
    port,
    async up() {
      const text = await (await fetch(`http://127.0.0.1:${statsPort}/metrics`)).text();
      return nodePorts.filter((_, i) =>
        text
          .split('\n')
          .includes(`haproxy_server_status{proxy="nodes",server="node-${i + 1}",state="UP"} 1`),
      );
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

interface Place {
  readonly folder: string;
  readonly both: string;
  readonly port: number;
  readonly statsPort: number;
  readonly nodePorts: readonly number[];
}

interface Command {
  readonly check: readonly string[];
  readonly run: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

function haproxy(
  place: Place,
  { tls = true, proxyProtocol = false, checkMs }: ClusterProxyOptions,
): Command {
  const [first, second, third] = place.nodePorts;
  const text = replaced('haproxy-cluster.cfg', [
    ...(tls
      ? []
      : ([
          [TLS_BIND, ''],
          ['  http-request set-header X-Forwarded-Proto https\n', ''],
        ] as const)),
    ...(proxyProtocol
      ? ([
          ['  option forwardfor\n', ''],
          ['default-server check ', 'default-server send-proxy-v2 check-send-proxy check '],
        ] as const)
      : []),
    ...(checkMs === undefined ? [] : ([['inter 500ms', `inter ${checkMs}ms`]] as const)),
    ...(isRoot() ? [] : ([['  user haproxy\n  group haproxy\n', '']] as const)),
  ]);
  const file = join(place.folder, 'haproxy.cfg');
  writeFileSync(file, text);
  return {
    check: ['-c', '-q', '-dW', '-f', file],
    run: ['-db', '-q', '-f', file],
    environment: {
      HALFWAY_BIND: `127.0.0.1:${place.port}`,
      HALFWAY_CERT: place.both,
      HALFWAY_NODE_1: `127.0.0.1:${first}`,
      HALFWAY_NODE_2: `127.0.0.1:${second}`,
      HALFWAY_NODE_3: `127.0.0.1:${third}`,
      HALFWAY_STATS: `127.0.0.1:${place.statsPort}`,
      HALFWAY_MAXCONN: '8000',
    },
  };
}

function nginx(place: Place, { tls = true }: ClusterProxyOptions): Command {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map(what => `${what}_temp_path ${join(place.folder, what)};`)
    .join(' ');
  const text = replaced('nginx-cluster.conf', [
    ...place.nodePorts.map(
      (port, i) => [`server 10.0.0.1${i + 1}:8080 `, `server 127.0.0.1:${port} `] as const,
    ),
    ['listen 443 ', `listen 127.0.0.1:${place.port} `],
    ...(tls ? [] : ([[TLS_LISTEN, ' so_keepalive']] as const)),
    ['/etc/nginx/relay.pem', place.both],
    ['/etc/nginx/relay.key', join(place.folder, 'key.pem')],
    ['http {\n', `http {\n  ${temporary}\n`],
    ['worker_rlimit_nofile 20000;', ''],
    ...(isRoot() ? [] : ([['user www-data;', '']] as const)),
  ]);
  const file = join(place.folder, 'nginx.conf');
  writeFileSync(file, text);
  const base = ['-e', 'stderr', '-p', place.folder, '-c', file, '-g'];
  const pid = `pid ${join(place.folder, 'nginx.pid')};`;
  return {
    check: ['-t', '-q', ...base, pid],
    run: [...base, `${pid} daemon off;`],
    environment: {},
  };
}

/** A shipped file with some of its places changed; each must be there. */
function replaced(file: string, changes: readonly (readonly [string, string])[]): string {
  let text = readFileSync(join(DEPLOY, file), 'utf8');
  for (const [shipped, here] of changes) {
    if (!text.includes(shipped)) throw new Error(`deploy/${file} has no "${shipped}"`);
    text = text.replace(shipped, here);
  }
  return text;
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}
