import { formatConnectionString, type RelayEndpoint } from '../protocol/connection-string.ts';
import type { SasRule } from '../protocol/resources.ts';
import { formatTimestamp } from '../protocol/timestamps.ts';
import type { HybridConnection, Origin } from '../relay/hybrid-connection.ts';
import type { Namespace } from '../relay/namespaces.ts';
import { formatApiPath, type Level } from './api-path.ts';

// How resources look in answers: the words of Azure's resource model. Source: protocol reference 6.6.

/** A rule with what is known of it besides; `etag` undefined when it never changes. */
export interface ServedRule {
  readonly rule: SasRule;
  readonly definedBy: Origin;
  readonly etag: string | undefined;
}

/** @param isDurable whether what is changed here outlives the process. */
export function namespaceResource(namespace: Namespace, isDurable: boolean): object {
  return {
    id: formatApiPath({ namespace: namespace.name }),
    name: namespace.name,
    type: 'Microsoft.Relay/Namespaces',
    properties: {
      hosts: namespace.hosts,
      hybridConnectionCount: namespace.size,
      createdAt: time(namespace.createdAtMs),
      definedBy: 'config-file',
      changesAreKept: isDurable,
    },
  };
}

export function hybridConnectionResource(
  entity: HybridConnection,
  etag: string | undefined,
): object {
  return {
    id: formatApiPath({ namespace: entity.namespace, hybridConnection: entity.name }),
    name: entity.name,
    type: 'Microsoft.Relay/Namespaces/HybridConnections',
    ...(etag === undefined ? {} : { etag }),
    properties: {
      requiresClientAuthorization: entity.requiresClientAuthorization,
      userMetadata: entity.userMetadata,
      listenerCount: entity.reachable.length,
      createdAt: time(entity.createdAtMs),
      updatedAt: time(entity.updatedAtMs),
      definedBy: entity.origin,
    },
  };
}

/** Without its keys: those are given only to who asks for them. */
export function ruleResource(level: Level, { rule, definedBy, etag }: ServedRule): object {
  const kind = level.hybridConnection === undefined ? '' : '/HybridConnections';
  return {
    id: formatApiPath(level, rule.name),
    name: rule.name,
    type: `Microsoft.Relay/Namespaces${kind}/AuthorizationRules`,
    ...(etag === undefined ? {} : { etag }),
    properties: { rights: rule.rights, definedBy },
  };
}

/** The keys, and connection strings for who is to use them; `EntityPath` only for rules of a hybrid connection. */
export function keysResource(level: Level, rule: SasRule, endpoint: RelayEndpoint): object {
  const { name, primaryKey, secondaryKey } = rule;
  const connectionString = (key: string): string =>
    formatConnectionString({
      endpoint,
      sharedAccessKeyName: name,
      sharedAccessKey: key,
      ...(level.hybridConnection === undefined ? {} : { entityPath: level.hybridConnection }),
    });
  return {
    keyName: name,
    primaryKey,
    ...(secondaryKey === undefined ? {} : { secondaryKey }),
    primaryConnectionString: connectionString(primaryKey),
    ...(secondaryKey === undefined
      ? {}
      : { secondaryConnectionString: connectionString(secondaryKey) }),
  };
}

function time(wallMs: number): string {
  return `${formatTimestamp(wallMs)}Z`;
}
