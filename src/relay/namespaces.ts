import { candidateKeys, entityKey } from '../protocol/request-path.ts';
import type { NamespaceDescription, SasRule } from '../protocol/resources.ts';
import { HybridConnection, type HybridConnectionTerms } from './hybrid-connection.ts';

/** Told of each hybrid connection that comes into being after the start. */
export type AddedObserver = (added: HybridConnection) => void;

/**
 * One namespace as it is served: its rules and its hybrid connections. What the config file defines stays
 * as it is; what is made at run time lives beside it, and gives way where both claim a name.
 */
export class Namespace {
  readonly name: string;
  readonly hosts: readonly string[];
  /** Milliseconds since 1970. */
  readonly createdAtMs: number;
  /** Rules of the config file. */
  readonly fileRules: readonly SasRule[];
  readonly #byKey = new Map<string, HybridConnection>();
  readonly #added: AddedObserver;
  #rules: readonly SasRule[];

  constructor(
    description: NamespaceDescription,
    createdAtMs: number,
    added: AddedObserver = () => {},
  ) {
    this.name = description.name;
    this.hosts = description.hosts;
    this.createdAtMs = createdAtMs;
    this.fileRules = description.authorizationRules;
    this.#rules = description.authorizationRules;
    this.#added = added;
    for (const entity of description.hybridConnections) {
      const written = { createdAtMs, updatedAtMs: createdAtMs };
      const served = new HybridConnection(this.name, {
        ...entity,
        origin: 'config-file',
        ...written,
      });
      this.#byKey.set(entityKey(entity.name), served);
    }
  }

  /** All that count, read anew at each token check. */
  get rules(): readonly SasRule[] {
    return this.#rules;
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
    return this.#add({
      name,
      requiresClientAuthorization: true,
      userMetadata: '',
      authorizationRules: [],
      origin: 'auto-created',
      createdAtMs,
      updatedAtMs: createdAtMs,
    });
  }

  /**
   * Adds or changes one that was made at run time; one that came into being on first use becomes it. False: the config
   * file has this name, and nothing was done.
   */
  put(terms: HybridConnectionTerms): boolean {
    const found = this.named(terms.name);
    if (found?.origin === 'config-file') return false;
    if (found === undefined) this.#add(terms);
    else found.change(terms);
    return true;
  }

  /** Ends what is connected and forgets it. False: there is none, or the config file defines it. */
  remove(name: string): boolean {
    const found = this.named(name);
    if (found === undefined || found.origin === 'config-file') return false;
    this.#byKey.delete(entityKey(name));
    found.delete();
    return true;
  }

  /**
   * Replaces the rules that were made at run time; gives back those that do not count, because the config file has a
   * rule of their name.
   */
  setRules(rules: readonly SasRule[]): readonly SasRule[] {
    const taken = new Set(this.fileRules.map(({ name }) => name.toLowerCase()));
    const isFree = ({ name }: SasRule): boolean => !taken.has(name.toLowerCase());
    this.#rules = [...this.fileRules, ...rules.filter(isFree)];
    return rules.filter(rule => !isFree(rule));
  }

  #add(terms: HybridConnectionTerms): HybridConnection {
    const added = new HybridConnection(this.name, terms);
    this.#byKey.set(entityKey(terms.name), added);
    this.#added(added);
    return added;
  }
}

/** All namespaces, by the host names they answer to. */
export class NamespaceTable {
  readonly all: readonly Namespace[];
  readonly #byName: ReadonlyMap<string, Namespace>;
  readonly #byHost = new Map<string, Namespace>();
  readonly #anyHost: Namespace | undefined;
  readonly #observers = new Set<AddedObserver>();

  constructor(descriptions: readonly NamespaceDescription[], createdAtMs: number) {
    const added: AddedObserver = hybridConnection => {
      for (const observer of this.#observers) observer(hybridConnection);
    };
    this.all = descriptions.map(description => new Namespace(description, createdAtMs, added));
    this.#byName = new Map(this.all.map(namespace => [namespace.name.toLowerCase(), namespace]));
    for (const namespace of this.all) {
      for (const host of namespace.hosts) this.#byHost.set(host, namespace);
    }
    this.#anyHost = this.all.find(namespace => namespace.hosts.length === 0);
  }

  /** In whatever case. */
  named(name: string): Namespace | undefined {
    return this.#byName.get(name.toLowerCase());
  }

  /** @param hostName lower case, without port. */
  find(hostName: string): Namespace | undefined {
    return this.#byHost.get(hostName) ?? this.#anyHost;
  }

  /** Calls the observer with each hybrid connection that is added from now on, on first use or at run time. */
  onAdded(observer: AddedObserver): void {
    this.#observers.add(observer);
  }
}

/** Host name of a `Host` header: lower case, without port; brackets of an IPv6 address stay. */
export function hostNameOf(host: string): string {
  const port = host.lastIndexOf(':');
  const end = port > host.lastIndexOf(']') ? port : host.length;
  return host.slice(0, end).toLowerCase();
}
