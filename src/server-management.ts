import { newSasKey } from './auth/sas-key.ts';
import type { Clock } from './base/clock.ts';
import type { Logger } from './base/logger.ts';
import { StartError } from './config/errors.ts';
import type { Config } from './config/options.ts';
import { isLoopback } from './config/parsers.ts';
import { ManagementApi } from './management/management-api.ts';
import { RunTimeConfiguration } from './management/run-time-configuration.ts';
import { parseEndpoint, type RelayEndpoint } from './protocol/connection-string.ts';
import { hostNameOf, type Namespace, type NamespaceTable } from './relay/namespaces.ts';
import type { Randomness } from './relay/ports.ts';
import { MemoryStore } from './store/memory-store.ts';
import { StoreError, type RelayStore } from './store/relay-store.ts';

export interface ManagementParts {
  readonly namespaces: NamespaceTable;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: Randomness;
  /** In place of the one that the configuration names; closed by `close`. */
  readonly store?: RelayStore;
}

export interface OpenManagement {
  /** The API, once it is known on which port clients reach the relay. */
  api(publicPort: number): ManagementApi;
  /** What is made at run time, for others that make it. */
  readonly configuration: RunTimeConfiguration;
  /** Why changes of other nodes are not seen; empty while all is well. */
  degradedReasons(): readonly string[];
  close(): void;
}

/** Opens the store, serves what it holds, and keeps doing so. Rejects with `StartError`. */
export async function openManagement(
  config: Config,
  parts: ManagementParts,
): Promise<OpenManagement> {
  const { namespaces, clock, log, random } = parts;
  try {
    const store = parts.store ?? (await openStore(config.data, clock));
    const reportBug = (bug: unknown): void => log.error({ err: bug }, 'bug in the configuration');
    const configuration = new RunTimeConfiguration({ store, namespaces, clock, log, reportBug });
    await configuration.start();
    let api: ManagementApi | undefined;
    return {
      configuration,
      api: publicPort =>
        (api ??= new ManagementApi({
          configuration,
          namespaces,
          clock,
          log,
          newRevision: () => random.uuid(),
          newKey: newSasKey,
          hybridConnectionsMax: config.hybridConnectionsMax,
          endpointOf: (namespace, host) => endpointOf(config, publicPort, namespace, host),
        })),
      degradedReasons: () => (configuration.fault === undefined ? [] : [configuration.fault]),
      close: () => configuration.stop(),
    };
  } catch (error) {
    if (error instanceof StoreError) throw new StartError(error.message, { cause: error });
    throw error;
  }
}

/** The store of one node, on whose own folder it is. Rejects with `StoreError`. */
export async function openStore(folder: string | undefined, clock: Clock): Promise<RelayStore> {
  if (folder === undefined) return new MemoryStore(clock);
  // Loads a native library, which those without a folder do without.
  const { SqliteStore } = await import('./store/sqlite-store.ts');
  return SqliteStore.open(folder, clock);
}

/**
 * What connection strings name: the public URL; else a host of the namespace, or the one that the admin port was
 * reached by. `sb` means TLS to every client but ours, and to ours on other machines.
 */
function endpointOf(
  config: Config,
  publicPort: number,
  namespace: Namespace,
  requestHost: string,
): RelayEndpoint {
  const given = config.publicUrl?.replace(/^ws/, 'http');
  const parsed = given === undefined ? undefined : parseEndpoint(given);
  const host = parsed?.host ?? namespace.hosts[0] ?? (hostNameOf(requestHost) || 'localhost');
  const port = parsed?.port ?? publicPort;
  const isTls = parsed === undefined ? config.tlsCert !== undefined : parsed.scheme === 'https';
  const isLocal = isLoopback(host.replace(/^\[(.*)\]$/, '$1'));
  // `sb` on port 443 is never plain; on loopback it is where `halfway dev` uses it so.
  return { scheme: isTls || (isLocal && port !== 443) ? 'sb' : 'http', host, port };
}
