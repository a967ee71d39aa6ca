import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { accepts, freePort } from '../support/ports.ts';
import { until } from '../support/within.ts';

/** A load balancer that ends TLS in front of one relay, with the configuration that we ship for it. */
export interface RunningProxy extends AsyncDisposable {
  /** On loopback, where it speaks TLS. */
  readonly port: number;
  /** Where HAProxy tells its metrics; undefined for nginx. */
  readonly metricsUrl: string | undefined;
}

export const PROXIES = ['haproxy', 'nginx'] as const;
export type ProxyName = (typeof PROXIES)[number];

const DEPLOY = join(import.meta.dirname, '../../deploy');
/** Debian's daemons live there, and the PATH of people who are not root leaves it out. */
const ENVIRONMENT = {
  ...process.env,
  PATH: `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin`,
};

/** Runs the real program in front of the relay that will listen, or listens already, on `relayPort` of loopback. */
export async function startProxy(name: ProxyName, relayPort: number): Promise<RunningProxy> {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-proxy-'));
  const certificate = selfSignedCertificate(folder);
  const [port, metricsPort] = [await freePort(), await freePort()];
  const setting = { folder, certificate, port, metricsPort, relayPort };
  const { check, run, environment } = name === 'haproxy' ? haproxy(setting) : nginx(setting);
  // The checks exit with 0 in spite of warnings, so these count too.
  const env = { ...ENVIRONMENT, ...environment };
  execFileSync(name, check, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const child = spawn(name, run, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = once(child, 'exit');
  await until(`${name} listens`, () => {
    if (child.exitCode !== null) throw new Error(`${name} has ended: ${said}`);
    return accepts(port);
  });
  return {
    port,
    metricsUrl: name === 'haproxy' ? `http://127.0.0.1:${metricsPort}/metrics` : undefined,
    async [Symbol.asyncDispose]() {
      // SIGTERM is the quick end of both, which cuts what is open.
      child.kill('SIGTERM');
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

interface Setting {
  readonly folder: string;
  readonly certificate: { readonly cert: string; readonly key: string; readonly both: string };
  readonly port: number;
  readonly metricsPort: number;
  readonly relayPort: number;
}

interface Command {
  readonly check: readonly string[];
  readonly run: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/** As shipped, values given by variables; only root can become another user. */
function haproxy({ folder, certificate, port, metricsPort, relayPort }: Setting): Command {
  const shipped = readFileSync(join(DEPLOY, 'haproxy.cfg'), 'utf8');
  const text = isRoot() ? shipped : shipped.replaceAll(/^ *(user|group) haproxy$/gm, '');
  const file = join(folder, 'haproxy.cfg');
  writeFileSync(file, text);
  return {
    check: ['-c', '-q', '-dW', '-f', file],
    run: ['-db', '-q', '-f', file],
    environment: {
      HALFWAY_BIND: `127.0.0.1:${port}`,
      HALFWAY_CERT: certificate.both,
      HALFWAY_NODE: `127.0.0.1:${relayPort}`,
      HALFWAY_STATS: `127.0.0.1:${metricsPort}`,
      HALFWAY_MAXCONN: '100',
    },
  };
}

/** As shipped, but for its places: nginx knows no variables where these stand. */
function nginx({ folder, certificate, port, relayPort }: Setting): Command {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map(what => `${what}_temp_path ${join(folder, what)};`)
    .join(' ');
  const replacements = [
    ['listen 443 ', `listen 127.0.0.1:${port} `],
    ['server 127.0.0.1:8080;', `server 127.0.0.1:${relayPort};`],
    ['/etc/nginx/relay.pem', certificate.cert],
    ['/etc/nginx/relay.key', certificate.key],
    ['http {\n', `http {\n  ${temporary}\n`],
    ['worker_rlimit_nofile 20000;', ''],
    ['worker_connections 8000;', 'worker_connections 200;'],
    ...(isRoot() ? [] : [['user www-data;', ''] as const]),
  ] as const;
  let text = readFileSync(join(DEPLOY, 'nginx.conf'), 'utf8');
  for (const [shipped, here] of replacements) {
    if (!text.includes(shipped)) throw new Error(`deploy/nginx.conf has no "${shipped}"`);
    text = text.replace(shipped, here);
  }
  const file = join(folder, 'nginx.conf');
  writeFileSync(file, text);
  const base = ['-e', 'stderr', '-p', folder, '-c', file, '-g'];
  const pid = `pid ${join(folder, 'nginx.pid')};`;
  return {
    check: ['-t', '-q', ...base, pid],
    run: [...base, `${pid} daemon off;`],
    environment: {},
  };
}

function selfSignedCertificate(folder: string): Setting['certificate'] {
  const [cert, key, both] = ['cert.pem', 'key.pem', 'both.pem'].map(name => join(folder, name));
  if (cert === undefined || key === undefined || both === undefined) throw new Error('three names');
  const command =
    'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost';
  execFileSync('openssl', [...command.split(' '), '-keyout', key, '-out', cert], {
    stdio: 'ignore',
  });
  writeFileSync(both, readFileSync(cert, 'utf8') + readFileSync(key, 'utf8'), { mode: 0o600 });
  return { cert, key, both };
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}
