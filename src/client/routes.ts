import {
  Agent as HttpAgent,
  request as httpRequest,
  type ClientRequest,
  type IncomingMessage,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import {
  checkServerIdentity,
  createSecureContext,
  rootCertificates,
  type PeerCertificate,
  type SecureContext,
} from 'node:tls';
import { HttpProxyAgent } from 'http-proxy-agent';
import { HttpsProxyAgent } from 'https-proxy-agent';
import { isLoopback } from './loopback.ts';
import { proxyFromEnvironment } from './proxy-from-environment.ts';
import { connectionFailure } from './connection-failures.ts';
import { RelayError } from './relay-error.ts';

export type CertificateAuthorities = string | Buffer | readonly (string | Buffer)[];

export interface RouteOptions {
  /** See `RelayOptions`. */
  readonly proxy?: string | false | undefined;
  readonly ca?: CertificateAuthorities | undefined;
}

export interface RouteRequest {
  /** For messages: what is tried, as in "Cannot …". */
  readonly doing: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** Goes through a proxy by CONNECT even without TLS: for upgrades, which proxies do not forward otherwise. */
  readonly isUpgrade?: boolean;
  /** Keeps the connection for the next request of the same kind. */
  readonly keepsAlive?: boolean;
}

/** A request that has been begun: its head is sent with the first write, or at its end. */
export interface RoutedRequest {
  readonly request: ClientRequest;
  /** What an error of the request means. */
  readonly failure: (error: unknown) => RelayError;
  /** The refusal, when an answer comes from the proxy and not from the other end. */
  readonly proxyRefusal: (answer: IncomingMessage) => RelayError | undefined;
}

/** Longest block of headers that an answer may have. */
const HEADER_BYTES_MAX = 65_536;

/** How to reach relays: through which proxy, and whom to trust. */
export class Routes {
  readonly #proxy: URL | false | undefined;
  /** Parsed once: with it no connection has to read a hundred certificates anew. */
  readonly #secureContext: SecureContext | undefined;
  readonly #agents = new Map<string, HttpAgent>();

  /** Throws a `TypeError` for a proxy that is no URL of HTTP, and for certificates that cannot be read. */
  constructor(options: RouteOptions = {}) {
    this.#proxy = typeof options.proxy === 'string' ? proxyUrl(options.proxy) : options.proxy;
    if (options.ca !== undefined) {
      const own =
        typeof options.ca === 'string' || Buffer.isBuffer(options.ca) ? [options.ca] : options.ca;
      this.#secureContext = createSecureContext({ ca: [...rootCertificates, ...own] });
    }
  }

  /** The proxy that requests to a URL go through. Throws a `RelayError` when the environment names one that is none. */
  proxyFor(url: URL): URL | undefined {
    if (this.#proxy === false) return undefined;
    if (this.#proxy !== undefined) return this.#proxy;
    // As other programs have it: what is on this machine is not behind the proxy.
    if (isLoopback(url.hostname)) return undefined;
    const text = proxyFromEnvironment(url);
    if (text === undefined) return undefined;
    try {
      return proxyUrl(text);
    } catch (error) {
      throw new RelayError(
        'ProxyRefused',
        `Cannot use the proxy of the environment: ${String(error)}`,
      );
    }
  }

  /** Begins a request to an `http:` or `https:` URL, used as given. */
  open(url: URL, options: RouteRequest): RoutedRequest {
    const proxy = this.proxyFor(url);
    const isTls = url.protocol === 'https:';
    const isTunnel = proxy !== undefined && (isTls || options.isUpgrade === true);
    const host = url.hostname.replaceAll(/^\[|\]$/g, '');
    const request = (isTls ? httpsRequest : httpRequest)(url, {
      ...(options.method === undefined ? {} : { method: options.method }),
      ...(options.headers === undefined ? {} : { headers: copyOf(options.headers) }),
      maxHeaderSize: HEADER_BYTES_MAX,
      agent: this.#agent({ proxy, isTls, isTunnel, keepsAlive: options.keepsAlive === true }),
      ...this.#tls(),
      // Behind a proxy Node would compare with the proxy's name where the relay is given by its address.
      checkServerIdentity: (_host: string, certificate: PeerCertificate) =>
        checkServerIdentity(host, certificate),
    });
    // Where the way leads over a tunnel, the proxy's own answer comes first.
    let tunnelStatus: number | undefined;
    request.once('proxyConnect', (answer: { readonly statusCode?: number }) => {
      tunnelStatus = answer.statusCode ?? 200;
    });
    const toHost = `${url.hostname}:${url.port === '' ? (isTls ? 443 : 80) : url.port}`;
    const shownProxy = proxy === undefined ? undefined : shown(proxy);
    return {
      request,
      failure: error =>
        connectionFailure(options.doing, error, {
          host: toHost,
          proxy: isTunnel && tunnelStatus !== undefined ? undefined : shownProxy,
        }),
      proxyRefusal: answer => {
        if (shownProxy === undefined) return undefined;
        const isOfProxy = isTunnel ? tunnelStatus !== 200 : answer.statusCode === 407;
        if (!isOfProxy) return undefined;
        return proxyRefusalError(options.doing, { proxy: shownProxy, host: toHost }, answer);
      },
    };
  }

  #tls(): { readonly secureContext?: SecureContext } {
    return this.#secureContext === undefined ? {} : { secureContext: this.#secureContext };
  }

  #agent(way: {
    readonly proxy: URL | undefined;
    readonly isTls: boolean;
    readonly isTunnel: boolean;
    readonly keepsAlive: boolean;
  }): HttpAgent | false {
    const { proxy, isTls, isTunnel, keepsAlive } = way;
    if (proxy === undefined && !keepsAlive) return false;
    const key = [proxy?.href, isTls, isTunnel, keepsAlive].join(' ');
    const known = this.#agents.get(key);
    if (known !== undefined) return known;
    const options = { keepAlive: keepsAlive, ...this.#tls() };
    const agent =
      proxy === undefined
        ? new (isTls ? HttpsAgent : HttpAgent)(options)
        : isTunnel
          ? new HttpsProxyAgent(proxy, options)
          : new HttpProxyAgent(proxy, options);
    this.#agents.set(key, agent);
    return agent;
  }
}

function copyOf(
  headers: Readonly<Record<string, string | readonly string[]>>,
): Record<string, string | string[]> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name,
      typeof value === 'string' ? value : [...value],
    ]),
  );
}

function proxyUrl(text: string): URL {
  const whole = text.includes('://') ? text : `http://${text}`;
  const url = URL.canParse(whole) ? new URL(whole) : undefined;
  if (url === undefined)
    throw new TypeError('The proxy must be such as http://user:password@host:port');
  if (url.protocol === 'http:' || url.protocol === 'https:') return url;
  throw new TypeError(`The proxy must be an http:// or https:// one, got ${url.protocol}//`);
}

/** Without the credentials. */
function shown(proxy: URL): string {
  return `${proxy.hostname}:${proxy.port === '' ? (proxy.protocol === 'https:' ? 443 : 80) : proxy.port}`;
}

function proxyRefusalError(
  doing: string,
  way: { readonly proxy: string; readonly host: string },
  answer: IncomingMessage,
): RelayError {
  const { statusCode: status = 0, statusMessage: reason = '' } = answer;
  const advice =
    status === 407
      ? 'give credentials as in http://user:password@host:port, or check those that were given'
      : `ask for ${way.host} to be allowed there`;
  const message = `Cannot ${doing}: the proxy ${way.proxy} answered ${status} ${reason}`.trimEnd();
  return new RelayError('ProxyRefused', `${message}; ${advice}`, {
    status,
    reason,
    isTransient: status >= 500,
  });
}
