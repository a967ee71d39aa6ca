import { lookup } from 'node:dns/promises';
import { connect, isIP } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import { isLoopback } from '../../client/loopback.ts';
import { RelayError } from '../../client/relay-error.ts';
import { messageOf } from '../command-error.ts';
import { wordsOf } from '../refusal-advice.ts';
import { failed, ok, warning, type Finding } from './finding.ts';
import type { Patient } from './patient.ts';

const NAME_TIMEOUT_MS = 5_000;
const CONNECT_TIMEOUT_MS = 5_000;
/** A certificate that ends sooner is warned of. */
const EXPIRY_WARNING_MS = 14 * 86_400_000;
const DAY_MS = 86_400_000;

/** Where the first connection goes: to the proxy, if there is one, which then resolves the relay's name. */
function firstHop(patient: Patient): {
  readonly host: string;
  readonly port: number;
  readonly what: string;
} {
  const proxy = proxyOf(patient);
  const { url, port } = patient;
  if (proxy === undefined || proxy instanceof RelayError) {
    return { host: bare(url.hostname), port, what: '' };
  }
  const proxyPort =
    proxy.port === '' ? (proxy.protocol === 'https:' ? 443 : 80) : Number(proxy.port);
  return { host: bare(proxy.hostname), port: proxyPort, what: 'the proxy ' };
}

function proxyOf({ options, url }: Patient): URL | RelayError | undefined {
  try {
    return options.routes.proxyFor(url);
  } catch (error) {
    if (error instanceof RelayError) return error;
    throw error;
  }
}

export async function checkName(patient: Patient): Promise<Finding> {
  const { host, what } = firstHop(patient);
  if (isIP(host) !== 0) return ok(`${what}${host} is an address`);
  const late = Symbol('late');
  try {
    const found = await Promise.race([
      lookup(host, { all: true }),
      waited(patient.options.clock, NAME_TIMEOUT_MS, late),
    ]);
    if (typeof found === 'symbol') {
      return failed(
        `${what}${host}: the DNS does not answer within ${NAME_TIMEOUT_MS / 1_000} s`,
        DNS_ADVICE,
      );
    }
    return ok(`${what}${host} is ${found.map(({ address }) => address).join(', ')}`);
  } catch (error) {
    return failed(`${what}${host}: ${messageOf(error)}`, DNS_ADVICE);
  }
}

const DNS_ADVICE = 'check the name, and the DNS of this machine';

function waited<T>(clock: Clock, delayMs: number, value: T): Promise<T> {
  return new Promise(resolve => void clock.after(delayMs, () => resolve(value)));
}

export function checkTcp(patient: Patient): Promise<Finding> {
  const { host, port, what } = firstHop(patient);
  const { clock } = patient.options;
  const place = `${what}${host.includes(':') ? `[${host}]` : host}:${port}`;
  return new Promise(resolve => {
    const startedAtMs = clock.nowMs();
    const socket = connect({ host, port });
    const done = (finding: Finding): void => {
      cancel();
      socket.destroy();
      resolve(finding);
    };
    const cancel = clock.after(CONNECT_TIMEOUT_MS, () =>
      done(
        failed(
          `${place} does not answer within ${CONNECT_TIMEOUT_MS / 1_000} s`,
          'a firewall may drop it: ask for it to be allowed, or name a proxy (--proxy, HTTPS_PROXY)',
        ),
      ),
    );
    socket.once('connect', () =>
      done(ok(`${place} accepts connections (${Math.round(clock.nowMs() - startedAtMs)} ms)`)),
    );
    socket.once('error', error =>
      done(failed(`${place}: ${messageOf(error)}`, 'check host and port, and that it runs')),
    );
  });
}

/** Which proxy is used and why; whether it lets us through. */
export async function checkProxy(patient: Patient): Promise<Finding> {
  const proxy = proxyOf(patient);
  if (proxy instanceof RelayError) return failed(proxy.message, 'correct the variable');
  if (proxy === undefined) return ok(`none: ${whyNoProxy(patient)}`);
  const place = `${proxy.hostname}:${proxy.port === '' ? (proxy.protocol === 'https:' ? 443 : 80) : proxy.port}`;
  const asked = await patient.health();
  if (asked instanceof RelayError && concernsProxy(asked)) {
    return failed(`${place} (${whyProxy(patient)}): ${wordsOf(asked)}`);
  }
  return ok(`${place} lets us through (${whyProxy(patient)})`);
}

function concernsProxy({ code, message }: RelayError): boolean {
  return code === 'ProxyRefused' || message.includes('the proxy');
}

function whyNoProxy({ options: { proxy, env }, url }: Patient): string {
  if (proxy === false) return '--proxy none says so';
  if (isLoopback(url.hostname)) return 'the relay is on this machine';
  return variableOf(env, url) === undefined
    ? 'no variable names one'
    : 'NO_PROXY excepts the relay';
}

function whyProxy({ options: { proxy, env }, url }: Patient): string {
  if (proxy !== undefined) return '--proxy names it';
  return `${variableOf(env, url) ?? 'the environment'} names it`;
}

function variableOf(
  env: Readonly<Record<string, string | undefined>>,
  url: URL,
): string | undefined {
  const scheme = url.protocol.replace(':', '');
  const names = [`${scheme}_proxy`, 'all_proxy'].flatMap(name => [name, name.toUpperCase()]);
  return names.find(name => (env[name] ?? '') !== '');
}

export async function checkTls(patient: Patient): Promise<Finding> {
  const asked = await patient.health();
  if (!patient.isTls) {
    if (isLoopback(patient.url.hostname))
      return ok('not used: the endpoint is http://, on this machine');
    const advice =
      'use sb:// or https:// if others can see the network: tokens and data cross it as they are';
    return warning('not used: the endpoint is http://', advice);
  }
  if (asked instanceof RelayError) {
    return failed(wordsOf(asked));
  }
  const { tls } = asked;
  if (tls === undefined) return warning('nothing is known of the connection');
  const leftMs = tls.expiresAtMs - patient.options.clock.wallMs();
  const days = Math.floor(leftMs / DAY_MS);
  const text = `${tls.version}, certificate of ${tls.issuer} for ${patient.url.hostname}, good for ${days} days`;
  return leftMs < EXPIRY_WARNING_MS ? warning(text, 'renew the certificate') : ok(text);
}

function bare(hostname: string): string {
  return hostname.replaceAll(/^\[|\]$/g, '');
}
