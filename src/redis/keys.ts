import { assert } from '../base/assert.ts';

/** Prefix of all keys unless another is given; several clusters share a Redis by different ones. */
export const KEY_PREFIX_DEFAULT = 'halfway';

export function isKeyPrefix(text: string): boolean {
  return /^[A-Za-z0-9._:-]{1,64}$/.test(text);
}

/**
 * The schema of the cluster's directory: every key there is, by one function or field each.
 *
 * The prefix is the hash tag, `{halfway}:…`, so all keys lie in one slot and a script may touch
 * several of them on a Redis Cluster too. No key expires by itself: what ends is removed by a script
 * that says so in the feed.
 */
export interface DirectoryKeys {
  /** Hash: `schema` (1), `incarnation` (Redis TIME in ms when the directory was begun), `seq` (number of the last change). */
  readonly meta: string;
  /** Sorted set: node id → when its lease ends, in ms of Redis TIME. */
  readonly leases: string;
  /** Hash: node id → `epoch digest-part record`, the record as JSON. */
  readonly nodes: string;
  /** Hash: node id → digest of its record and rows, 48 bits in decimal. */
  readonly digests: string;
  /** Stream of changes, ids `incarnation-seq`, trimmed to a length. */
  readonly feed: string;
  /** Set: `node epoch` of epochs that are over and whose rows are to be deleted. */
  readonly garbage: string;
  /** Hash, one for each node and epoch: row key → `digest-part row`, the row as JSON. */
  rows(node: string, epoch: string): string;
  /** Hash, one for each hybrid connection: row key → `node epoch`; what the quota counts. */
  listeners(namespace: string, hybridConnection: string): string;
}

export function directoryKeys(prefix: string): DirectoryKeys {
  assert(isKeyPrefix(prefix), 'a key prefix is made of letters, digits, ".", "_", ":" and "-"');
  const tag = `{${prefix}}`;
  return {
    meta: `${tag}:meta`,
    leases: `${tag}:leases`,
    nodes: `${tag}:nodes`,
    digests: `${tag}:digests`,
    feed: `${tag}:feed`,
    garbage: `${tag}:garbage`,
    rows: (node, epoch) => `${tag}:rows:${node}:${epoch}`,
    listeners: (namespace, hybridConnection) =>
      `${tag}:listeners:${encodeURIComponent(namespace)}/${hybridConnection}`,
  };
}

/**
 * The schema of the store of run-time configuration (`store/redis-store.ts`). One slot, as above; no key
 * expires: these are the only keys whose loss cannot be made good by the nodes that write them.
 */
export interface StoreKeys {
  /** Hash: `schema` (1), `incarnation` (Redis TIME in ms when the records were begun), `seq` and `tag` of the last change. */
  readonly meta: string;
  /** Hash: namespace → `version record`, the rules made at run time as JSON. */
  readonly namespaces: string;
  /** Hash: `namespace/name` → `version record`, a hybrid connection made at run time, with its rules. */
  readonly hybridConnections: string;
  /** Stream of changes, ids `incarnation-seq`, trimmed to a length. */
  readonly feed: string;
}

export function storeKeys(prefix: string): StoreKeys {
  assert(isKeyPrefix(prefix), 'a key prefix is made of letters, digits, ".", "_", ":" and "-"');
  const tag = `{${prefix}}:store`;
  return {
    meta: `${tag}:meta`,
    namespaces: `${tag}:namespaces`,
    hybridConnections: `${tag}:hybrid-connections`,
    feed: `${tag}:feed`,
  };
}

/**
 * The schema of the records of job dispatch (`store/redis-dispatch-store.ts`). Each partition is one slot: `/` is in no
 * prefix and no name, so two partitions never have one tag. No key expires, and a key with nothing in it is not there.
 */
export interface DispatchKeys {
  /** Stream of hints about changes in all partitions, trimmed to a length; of a slot of its own. Its loss costs nothing. */
  readonly feed: string;
  /** String: `version text`. */
  document(partition: string, kind: string, id: string): string;
  /** Sorted set of members. */
  index(partition: string, name: string): string;
  /** Stream of entries with ids `0-number`, each with the field `text`, trimmed as its writer says. */
  log(partition: string, name: string): string;
}

export function dispatchKeys(prefix: string): DispatchKeys {
  assert(isKeyPrefix(prefix), 'a key prefix is made of letters, digits, ".", "_", ":" and "-"');
  return {
    feed: `{${prefix}}:dispatch:feed`,
    document: (partition, kind, id) => `{${prefix}/${partition}}:document:${kind}/${id}`,
    index: (partition, name) => `{${prefix}/${partition}}:index:${name}`,
    log: (partition, name) => `{${prefix}/${partition}}:log:${name}`,
  };
}
