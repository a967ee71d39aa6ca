import type { Clock } from '../base/clock.ts';
import type { TokenVerifier } from '../auth/verify-token.ts';
import { leadingUuid } from '../protocol/ids.ts';
import { POLL_PATH } from '../protocol/poll-session.ts';
import { REFUSALS, refusalText, type RefusalReason } from '../protocol/refusals.ts';
import { isEntityName } from '../protocol/request-path.ts';
import type { Right } from '../protocol/resources.ts';
import type { HybridConnection } from './hybrid-connection.ts';
import { hostNameOf, type Namespace, type NamespaceTable } from './namespaces.ts';
import type { Randomness, Refused, RelayRequest } from './ports.ts';

export type Admission =
  | {
      readonly admitted: true;
      readonly hybridConnection: HybridConnection;
      readonly namespace: Namespace;
      readonly expiresAtMs: number;
    }
  | { readonly admitted: false; readonly reason: RefusalReason; readonly detail?: string };

/**
 * Decides who may use which hybrid connection. The order of checks hides which names exist from
 * those without a token: token, right, then existence. Source: azure-relay-protocol.md section 2.7.
 */
export class Admissions {
  readonly #namespaces: NamespaceTable;
  readonly #verifier: TokenVerifier;
  readonly #clock: Clock;
  readonly #autoCreate: boolean;
  readonly #hybridConnectionsMax: number;

  constructor(
    namespaces: NamespaceTable,
    verifier: TokenVerifier,
    clock: Clock,
    options: { readonly autoCreate: boolean; readonly hybridConnectionsMax: number },
  ) {
    this.#namespaces = namespaces;
    this.#verifier = verifier;
    this.#clock = clock;
    this.#autoCreate = options.autoCreate;
    this.#hybridConnectionsMax = options.hybridConnectionsMax;
  }

  admit(request: RelayRequest, right: Right, token: string | undefined): Admission {
    const hostName = hostNameOf(request.host);
    const namespace = this.#namespaces.find(hostName);
    if (namespace === undefined) {
      return { admitted: false, reason: 'endpoint-unknown', detail: `no namespace for this host` };
    }
    const found = namespace.find(request.path.segments);
    const isOpen = right === 'Send' && found?.requiresClientAuthorization === false;
    let expiresAtMs = Number.POSITIVE_INFINITY;
    if (!isOpen) {
      const verified = this.#verifier.verify({
        token,
        entityRules: found?.rules ?? [],
        namespaceRules: namespace.rules,
        hosts: hostsOf(namespace, hostName),
        segments: request.path.segments,
        right,
        wallMs: this.#clock.wallMs(),
      });
      if (!verified.ok) return { admitted: false, ...omitOk(verified) };
      expiresAtMs = verified.expiresAtMs;
    }
    if (found !== undefined) {
      return { admitted: true, hybridConnection: found, namespace, expiresAtMs };
    }
    const created = right === 'Listen' ? this.#create(namespace, request) : undefined;
    if (created === undefined) return { admitted: false, reason: 'endpoint-unknown' };
    return { admitted: true, hybridConnection: created, namespace, expiresAtMs };
  }

  /** A renewed token of a listener that is already in; `request` is the one it came in by. */
  renew(
    namespace: Namespace,
    hybridConnection: HybridConnection,
    token: string,
    request: RelayRequest,
  ):
    | { readonly expiresAtMs: number }
    | { readonly reason: RefusalReason; readonly detail?: string } {
    const hostName = hostNameOf(request.host);
    const verified = this.#verifier.verify({
      token,
      entityRules: hybridConnection.rules,
      namespaceRules: namespace.rules,
      hosts: hostsOf(namespace, hostName),
      segments: request.path.segments,
      right: 'Listen',
      wallMs: this.#clock.wallMs(),
    });
    return verified.ok ? { expiresAtMs: verified.expiresAtMs } : omitOk(verified);
  }

  #create(namespace: Namespace, request: RelayRequest): HybridConnection | undefined {
    const name = request.path.segments.join('/');
    if (!this.#autoCreate || !isEntityName(name)) return undefined;
    if (namespace.size >= this.#hybridConnectionsMax) return undefined;
    return namespace.create(name, this.#clock.wallMs());
  }
}

/**
 * What the audience of a token may name: the host that was asked, those of the namespace, or the namespace itself,
 * for tokens of ours, whose maker does not know by which host they will be used.
 */
function hostsOf(namespace: Namespace, requestHost: string): readonly string[] {
  return [requestHost, ...namespace.hosts, namespace.name.toLowerCase()];
}

function omitOk(refused: { reason: RefusalReason; detail?: string }): {
  reason: RefusalReason;
  detail?: string;
} {
  return refused.detail === undefined
    ? { reason: refused.reason }
    : { reason: refused.reason, detail: refused.detail };
}

/** The text a refused peer gets, with the tracking id it chose or a fresh one. */
export function refusalOf(
  reason: RefusalReason,
  about: { readonly request: RelayRequest; readonly wallMs: number; readonly random: Randomness },
  detail?: string,
): Refused & { readonly trackingId: string } {
  const { request, wallMs, random } = about;
  const trackingId = leadingUuid(request.query.id) ?? random.uuid();
  const text = refusalText(reason, {
    trackingId,
    host: hostNameOf(request.host),
    path: shownPath(request),
    wallMs,
    ...(detail === undefined ? {} : { detail }),
  });
  return { reason, status: REFUSALS[reason].httpStatus, text, trackingId };
}

/** A request's path as refusals and logs show it: the id in the path of a long-poll session is a secret. */
export function shownPath({ path: { segments } }: RelayRequest): string {
  return segments[0] === POLL_PATH ? POLL_PATH : segments.join('/');
}

/** The header wins over the query. Source: azure-relay-protocol.md section 2.1. */
export function webSocketToken(request: RelayRequest): string | undefined {
  return headerOf(request, 'servicebusauthorization') ?? request.query.token;
}

/** For HTTP the query wins, and `Authorization` counts only when nothing else is there. */
export function httpToken(request: RelayRequest): {
  readonly text: string | undefined;
  readonly isAuthorization: boolean;
} {
  const text = request.query.token ?? headerOf(request, 'servicebusauthorization');
  if (text !== undefined) return { text, isAuthorization: false };
  return { text: headerOf(request, 'authorization'), isAuthorization: true };
}

/** The first field of that name. */
export function headerOf(request: RelayRequest, lowerCaseName: string): string | undefined {
  for (const [name, value] of request.headers) if (name === lowerCaseName) return value;
  return undefined;
}
