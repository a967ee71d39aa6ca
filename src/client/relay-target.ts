import { systemClock, type Clock } from '../base/clock.ts';
import { tokenAudience } from '../auth/sign-token.ts';
import {
  httpOrigin,
  parseConnectionString,
  parseEndpoint,
  webSocketOrigin,
  type ConnectionString,
  type RelayEndpoint,
} from '../protocol/connection-string.ts';
import { isEntityName } from '../protocol/request-path.ts';
import { makeDial, type TransportChoice } from './dial.ts';
import type { Dial } from './frame-channel.ts';
import { isLoopback } from './loopback.ts';
import { messageOf, RelayError } from './relay-error.ts';
import { Routes, type CertificateAuthorities } from './routes.ts';
import {
  fixedToken,
  sharedKeyTokens,
  type RelayToken,
  type TokenProvider,
} from './token-provider.ts';

/** Where a relay is, which hybrid connection is meant, how to prove a right, and how to get there. */
export interface RelayOptions {
  /** `Endpoint=sb://host/;SharedAccessKeyName=…;SharedAccessKey=…[;EntityPath=…]`, as Azure has it. */
  readonly connectionString?: string;
  /**
   * In place of a connection string: `sb://`, `https://` or `wss://` with TLS, `http://` or `ws://`
   * without; host and perhaps port.
   */
  readonly endpoint?: string;
  /** Name of the hybrid connection; goes before the connection string's `EntityPath`. */
  readonly path?: string;
  /** By default made of the key, or the token, of the connection string. */
  readonly tokenProvider?: TokenProvider;
  /** `auto` by default: WebSocket, and long-polling where that cannot pass. */
  readonly transport?: TransportChoice;
  /**
   * `http://` or `https://` URL of a proxy, with user and password if it wants them. By default that of
   * HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, except for hosts of this machine; false: none.
   */
  readonly proxy?: string | false;
  /** Certificates in PEM form of authorities to trust besides those that Node comes with. */
  readonly ca?: CertificateAuthorities;
  /**
   * `sb://` means TLS, but not for a host of this machine on a port other than 443, where `halfway dev`
   * listens without. True: even there.
   */
  readonly tls?: boolean;
  /** For tests. */
  readonly clock?: Clock;
}

/** What `RelayOptions` come to. */
export interface RelayTarget {
  /** `http://host:port` or `https://host:port` */
  readonly httpOrigin: string;
  /** `ws://host:port` or `wss://host:port` */
  readonly webSocketOrigin: string;
  /** Name of the hybrid connection, without slashes around it. */
  readonly path: string;
  /** Undefined without any means of proof, which is fine for senders where they need none. */
  readonly token: ((validForMs: number) => Promise<RelayToken>) | undefined;
  readonly routes: Routes;
  readonly dial: Dial;
  readonly clock: Clock;
}

/** Reads the options. Throws a `TypeError` that names all that is wrong and repeats no secret. */
export function relayTarget(options: RelayOptions): RelayTarget {
  const { clock = systemClock, transport = 'auto' } = options;
  const given = connectionOf(options);
  const endpoint = plainOnLoopback(given.endpoint, options.tls === true);
  const path = (options.path ?? given.entityPath ?? '').replaceAll(/^\/+|\/+$/g, '');
  if (path === '') {
    throw new TypeError('Cannot tell which hybrid connection: give `path`, or EntityPath');
  }
  if (!isEntityName(path)) {
    throw new TypeError(`"${path}" is not a name that a hybrid connection can have`);
  }
  const routes = new Routes({ proxy: options.proxy, ca: options.ca });
  const provider = options.tokenProvider ?? providerOf(given, clock);
  return {
    httpOrigin: httpOrigin(endpoint),
    webSocketOrigin: webSocketOrigin(endpoint),
    path,
    token:
      provider === undefined ? undefined : askFor(provider, tokenAudience(endpoint.host, path)),
    routes,
    dial: makeDial({ transport, routes, clock }),
    clock,
  };
}

function connectionOf({ connectionString, endpoint }: RelayOptions): ConnectionString {
  if (connectionString !== undefined) {
    if (endpoint !== undefined)
      throw new TypeError('Give `connectionString` or `endpoint`, not both');
    const parsed = parseConnectionString(connectionString.trim());
    if (parsed.ok) return parsed.value;
    throw new TypeError(`Cannot read the connection string: ${parsed.faults.join('; ')}`);
  }
  if (endpoint === undefined) throw new TypeError('Give `connectionString` or `endpoint`');
  const parsed = parseEndpoint(endpoint.replace(/^ws(?=s?:)/i, 'http'));
  if (parsed !== undefined) return { endpoint: parsed };
  throw new TypeError('`endpoint` must be such as sb://host[:port]/, https://…, http://…');
}

/** `halfway dev` prints sb://, as Azure's tools want it, but speaks plain; nobody listens in on loopback. */
export function plainOnLoopback(endpoint: RelayEndpoint, wantsTls: boolean): RelayEndpoint {
  const { scheme, host, port } = endpoint;
  const isPlain = scheme === 'sb' && isLoopback(host) && port !== 443 && !wantsTls;
  return isPlain ? { ...endpoint, scheme: 'http' } : endpoint;
}

function providerOf(given: ConnectionString, clock: Clock): TokenProvider | undefined {
  const { sharedAccessKeyName: keyName, sharedAccessKey: key, sharedAccessSignature } = given;
  if (keyName !== undefined && key !== undefined) return sharedKeyTokens({ keyName, key }, clock);
  return sharedAccessSignature === undefined ? undefined : fixedToken(sharedAccessSignature);
}

function askFor(provider: TokenProvider, audience: string) {
  return async (validForMs: number): Promise<RelayToken> => {
    try {
      return await provider.getToken(audience, validForMs);
    } catch (error) {
      if (error instanceof RelayError) throw error;
      const message = `Cannot get a token: ${messageOf(error)}`;
      throw new RelayError('Unauthorized', message, { cause: error });
    }
  };
}
