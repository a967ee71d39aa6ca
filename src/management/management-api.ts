import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { RelayEndpoint } from '../protocol/connection-string.ts';
import type { Namespace, NamespaceTable } from '../relay/namespaces.ts';
import { StoreError } from '../store/relay-store.ts';
import { apiError, type ApiAnswer } from './api-answers.ts';
import { parseApiPath, type ApiTarget } from './api-path.ts';
import type { ApiRequest } from './api-request.ts';
import { namespaceResource } from './api-resources.ts';
import { HybridConnectionsApi } from './hybrid-connections-api.ts';
import { RulesApi } from './rules-api.ts';
import type { RunTimeConfiguration } from './run-time-configuration.ts';

export interface ManagementDeps {
  readonly configuration: RunTimeConfiguration;
  readonly namespaces: NamespaceTable;
  readonly clock: Clock;
  readonly log: Logger;
  /** A text that was never there before: what an ETag says. */
  readonly newRevision: () => string;
  readonly newKey: () => string;
  /** Of all namespaces together. */
  readonly hybridConnectionsMax: number;
  /** Where clients reach a namespace, as far as this node can tell. */
  readonly endpointOf: (namespace: Namespace, requestHost: string) => RelayEndpoint;
}

/** The methods of each kind of resource. */
const METHODS: Readonly<Record<ApiTarget['kind'], readonly string[]>> = {
  namespaces: ['GET'],
  namespace: ['GET'],
  hybridConnections: ['GET'],
  hybridConnection: ['GET', 'PUT', 'DELETE'],
  rules: ['GET'],
  rule: ['GET', 'PUT', 'DELETE'],
  listKeys: ['POST'],
  regenerateKeys: ['POST'],
};

/** The management API, from a request that was read whole to its answer. Every answer but of a plain read is logged. */
export class ManagementApi {
  readonly #deps: ManagementDeps;
  readonly #hybridConnections: HybridConnectionsApi;
  readonly #rules: RulesApi;

  constructor(deps: ManagementDeps) {
    this.#deps = deps;
    this.#hybridConnections = new HybridConnectionsApi(deps);
    this.#rules = new RulesApi(deps);
  }

  /** Rejects only on a bug of ours. */
  async handle(request: ApiRequest): Promise<ApiAnswer> {
    const answer = await this.#answer(request);
    if (request.method !== 'GET') this.#logWrite(request, answer);
    return answer;
  }

  async #answer(request: ApiRequest): Promise<ApiAnswer> {
    const target = parseApiPath(request.path);
    if (target === undefined) return apiError('ResourceNotFound', UNKNOWN_PATH);
    const { isDurable } = this.#deps.configuration;
    const methods = METHODS[target.kind];
    if (!methods.includes(request.method)) {
      const message = `Cannot ${request.method} this: it takes ${methods.join(', ')}`;
      return { ...apiError('MethodNotAllowed', message), allow: methods.join(', ') };
    }
    if (target.kind === 'namespaces') {
      const value = this.#deps.namespaces.all.map(one => namespaceResource(one, isDurable));
      return { status: 200, body: { value } };
    }
    const namespace = this.#deps.namespaces.named(target.level.namespace);
    if (namespace === undefined) {
      const known = this.#deps.namespaces.all.map(({ name }) => name).join(', ');
      return apiError('ResourceNotFound', `There is no such namespace; there is: ${known}`);
    }
    try {
      return await this.#inNamespace(request, target, namespace);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#deps.log.warn({ err: error }, 'configuration store failed');
      const message = `${error.message}. A change may have taken effect all the same: look before trying again`;
      return apiError('StoreUnavailable', message);
    }
  }

  async #inNamespace(
    request: ApiRequest,
    target: Exclude<ApiTarget, { readonly kind: 'namespaces' }>,
    namespace: Namespace,
  ): Promise<ApiAnswer> {
    switch (target.kind) {
      case 'namespace':
        return {
          status: 200,
          body: namespaceResource(namespace, this.#deps.configuration.isDurable),
        };
      case 'hybridConnections':
        return this.#hybridConnections.list(namespace);
      case 'hybridConnection':
        return this.#hybridConnections.handle(request, namespace, target.name);
      default:
        return this.#rules.handle(request, namespace, target);
    }
  }

  /** Who did what, never with which keys. */
  #logWrite({ method, path, remoteAddress }: ApiRequest, answer: ApiAnswer): void {
    const { status, error } = answer;
    const isRead = /\/listKeys$/i.test(path);
    const did = isRead ? 'keys read' : 'configuration changed';
    this.#deps.log.info(
      {
        event: isRead ? 'KeysRead' : 'ConfigurationChanged',
        method,
        resource: path.slice(0, LOGGED_CHARS_MAX),
        code: status,
        ...(error === undefined ? {} : { reason: error }),
        remoteIp: remoteAddress,
      },
      error === undefined ? did : `${did.split(' ')[0]} request refused`,
    );
  }
}

const LOGGED_CHARS_MAX = 700;

const UNKNOWN_PATH =
  'Nothing has this path. There is /api/namespaces, /api/namespaces/{ns}/hybridConnections/{name} and ' +
  '…/authorizationRules/{rule} at both levels; slashes within a name are written %2F';
