import { candidateKeys, entityKey } from '../protocol/request-path.ts';
import type { NamespaceDescription, SasRule } from '../protocol/resources.ts';
import { HybridConnection } from './hybrid-connection.ts';

/** One namespace as it is served: its rules and its hybrid connections. */
export class Namespace {
  readonly name: string;
  readonly hosts: readonly string[];
  readonly rules: readonly SasRule[];
  readonly #byKey = new Map<string, HybridConnection>();

  constructor(description: NamespaceDescription, createdAtMs: number) {
    this.name = description.name;
    this.hosts = description.hosts;
    this.rules = description.authorizationRules;
    for (const entity of description.hybridConnections) {
      this.#byKey.set(
        entityKey(entity.name),
        new HybridConnection(description.name, entity, createdAtMs),
      );
    }
  }

  get hybridConnections(): Iterable<HybridConnection> {
    return this.#byKey.values();
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** The hybrid connection of exactly this name, in whatever case. */
  named(name: string): HybridConnection | undefined {
    return this.#byKey.get(entityKey(name));
  }

  /** The hybrid connection whose name is the longest prefix of the path, by segments. */
  find(segments: readonly string[]): HybridConnection | undefined {
    for (const key of candidateKeys(segments)) {
      const found = this.#byKey.get(key);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Adds one that is open to senders with a token, as the emulator does on first use. */
  create(name: string, createdAtMs: number): HybridConnection {
    const entity = new HybridConnection(
      this.name,
      { name, requiresClientAuthorization: true, userMetadata: '', authorizationRules: [] },
      createdAtMs,
    );
    this.#byKey.set(entityKey(name), entity);
    return entity;
  }
}

/** All namespaces, by the host names they answer to. */
export class NamespaceTable {
  readonly all: readonly Namespace[];
  readonly #byHost = new Map<string, Namespace>();
  readonly #anyHost: Namespace | undefined;

  constructor(descriptions: readonly NamespaceDescription[], createdAtMs: number) {
    this.all = descriptions.map(description => new Namespace(description, createdAtMs));
    for (const namespace of this.all) {
      for (const host of namespace.hosts) this.#byHost.set(host, namespace);
    }
    this.#anyHost = this.all.find(namespace => namespace.hosts.length === 0);
  }

  named(name: string): Namespace | undefined {
    return this.all.find(namespace => namespace.name === name);
  }

  /** @param hostName lower case, without port. */
  find(hostName: string): Namespace | undefined {
    return this.#byHost.get(hostName) ?? this.#anyHost;
  }
}

/** Host name of a `Host` header: lower case, without port; brackets of an IPv6 address stay. */
export function hostNameOf(host: string): string {
  const port = host.lastIndexOf(':');
  const end = port > host.lastIndexOf(']') ? port : host.length;
  return host.slice(0, end).toLowerCase();
}
