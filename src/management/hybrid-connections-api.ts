import { entityKey, isEntityName } from '../protocol/request-path.ts';
import { ENTITY_NAME_FORM } from '../protocol/resource-rules.ts';
import { show } from '../base/show.ts';
import type { HybridConnection } from '../relay/hybrid-connection.ts';
import type { Namespace } from '../relay/namespaces.ts';
import { storedMax } from './run-time-configuration.ts';
import { recordKey, type HybridConnectionSettings } from '../store/records.ts';
import { apiError, badRequest, type ApiAnswer, type ApiFault } from './api-answers.ts';
import { readHybridConnectionBody, type HybridConnectionBody } from './api-bodies.ts';
import { isNotModified, refusedByCondition, type ApiRequest } from './api-request.ts';
import { hybridConnectionResource } from './api-resources.ts';
import type { ManagementDeps } from './management-api.ts';
import { contended, definedInConfigFile, notThere } from './refused-writes.ts';

/** `GET`, `PUT` and `DELETE` of hybrid connections. */
export class HybridConnectionsApi {
  readonly #deps: ManagementDeps;

  constructor(deps: ManagementDeps) {
    this.#deps = deps;
  }

  list(namespace: Namespace): ApiAnswer {
    const value = [...namespace.hybridConnections].map(entity =>
      hybridConnectionResource(entity, this.#etagOf(entity)),
    );
    return { status: 200, body: { value } };
  }

  async handle(request: ApiRequest, namespace: Namespace, name: string): Promise<ApiAnswer> {
    if (request.method === 'PUT') return this.#put(request, namespace, name);
    const found = namespace.named(name);
    if (request.method === 'DELETE') return this.#delete(request, namespace, name);
    if (found === undefined) return notThere('hybrid connection', name);
    const etag = this.#etagOf(found);
    if (isNotModified(request, etag)) return { status: 304, ...(etag && { etag }) };
    return this.#answer(200, found);
  }

  async #put(request: ApiRequest, namespace: Namespace, name: string): Promise<ApiAnswer> {
    const { value, faults } = readHybridConnectionBody(request.body);
    const all: ApiFault[] = [...nameFaults(name), ...faults];
    if (all.length > 0) return badRequest(all);
    const found = namespace.named(name);
    if (found?.origin === 'config-file') return definedInConfigFile('hybrid connection', name);

    const { configuration, hybridConnectionsMax, namespaces } = this.#deps;
    const key = recordKey(namespace.name, name);
    let isNew = false;
    const outcome = await configuration.write<ApiAnswer>(
      key,
      storedMax(namespaces, hybridConnectionsMax),
      current => {
        const known = current?.hybridConnection;
        const condition = refusedByCondition(request, known && { etag: known.revision });
        if (condition !== undefined) return { refused: condition };
        isNew = known === undefined;
        return {
          put: {
            namespace: namespace.name,
            hybridConnection: this.#settings(value, known?.name ?? found?.name ?? name, known),
            rules: current?.rules ?? [],
          },
        };
      },
    );
    if (outcome === 'full') return this.#full();
    if (outcome === 'contended') return contended();
    if (outcome !== 'written') return outcome.refused;
    const served = namespace.named(name);
    // Somebody has deleted it since.
    if (served === undefined) return notThere('hybrid connection', name);
    return this.#answer(isNew ? 201 : 200, served);
  }

  #settings(body: HybridConnectionBody, name: string, known: HybridConnectionSettings | undefined) {
    const updatedAtMs = this.#deps.clock.wallMs();
    const createdAtMs = known?.createdAtMs ?? updatedAtMs;
    const { replacesListener } = known ?? {};
    const revision = this.#deps.newRevision();
    return { name, ...body, replacesListener, createdAtMs, updatedAtMs, revision };
  }

  async #delete(request: ApiRequest, namespace: Namespace, name: string): Promise<ApiAnswer> {
    const found = namespace.named(name);
    if (found?.origin === 'config-file') return definedInConfigFile('hybrid connection', name);
    const key = recordKey(namespace.name, name);
    const outcome = await this.#deps.configuration.write<ApiAnswer>(key, 0, current => {
      const known = current?.hybridConnection;
      const condition = refusedByCondition(request, known && { etag: known.revision });
      if (condition !== undefined) return { refused: condition };
      return known === undefined ? { refused: { status: 204 } } : { delete: true };
    });
    if (outcome === 'contended' || outcome === 'full') return contended();
    if (outcome === 'written') return { status: 200 };
    // One that came into being on first use is in no store.
    if (outcome.refused.status === 204 && namespace.remove(name)) return { status: 200 };
    return outcome.refused;
  }

  #answer(status: number, entity: HybridConnection): ApiAnswer {
    const etag = this.#etagOf(entity);
    const body = hybridConnectionResource(entity, etag);
    return { status, body, ...(etag === undefined ? {} : { etag }) };
  }

  #etagOf({ namespace, name, origin }: HybridConnection): string | undefined {
    if (origin !== 'api') return undefined;
    return this.#deps.configuration.recordAt(recordKey(namespace, name))?.hybridConnection
      ?.revision;
  }

  #full(): ApiAnswer {
    return apiError(
      'QuotaExceeded',
      `Cannot create it: there are as many hybrid connections as there may be (${this.#deps.hybridConnectionsMax}, ` +
        'hybridConnectionsMax)',
    );
  }
}

function nameFaults(name: string): readonly ApiFault[] {
  if (isEntityName(name) && name === name.replaceAll(/^\/+|\/+$/g, '') && entityKey(name) !== '') {
    return [];
  }
  return [{ target: 'name', message: `must be ${ENTITY_NAME_FORM}, got ${show(name)}` }];
}
