import { createHash } from 'node:crypto';
import type { PlacedRow, StoredRecord } from './coordinator.ts';
import { ROW_CHARS_MAX } from './limits.ts';
import type { ListenerClaim, MeshVersions, NodeRecord, NodeState } from './listener-directory.ts';

/**
 * Digests are sums of 48-bit parts modulo 2^48: they can be kept by adding and subtracting, in any
 * order, and stay exact in the doubles of JavaScript and Lua. They find differences; they are no
 * protection against somebody who makes them.
 */
export const DIGEST_MODULUS = 2 ** 48;
const PART_HEX_DIGITS = 12;

export function digestPart(text: string): number {
  return parseInt(createHash('sha1').update(text).digest('hex').slice(0, PART_HEX_DIGITS), 16);
}

export function rowPart(key: string, text: string): number {
  return digestPart(`${key}\n${text}`);
}

/** `digest` with some parts added and some taken out. */
export function digestWith(digest: number, added: number, removed: number): number {
  return (((digest + added - removed) % DIGEST_MODULUS) + DIGEST_MODULUS) % DIGEST_MODULUS;
}

const NODE_ID = /^[A-Za-z0-9._-]{1,64}$/;
const ROW_KEY = /^[\x21-\x7e]{1,128}$/;
const EPOCH = /^[0-9a-f]{32}\.\d{1,15}$/;

export function isNodeId(text: string): boolean {
  return NODE_ID.test(text);
}

export function isRowKey(text: string): boolean {
  return ROW_KEY.test(text);
}

export function isEpoch(text: string): boolean {
  return EPOCH.test(text);
}

export function formatRow(claim: ListenerClaim): PlacedRow {
  const { key, namespace, hybridConnection, listenerId, origin } = claim;
  const text = JSON.stringify([namespace, hybridConnection, listenerId, origin]);
  return { key, namespace, hybridConnection, text, part: rowPart(key, text) };
}

/** The row's claim, or undefined when it is none of ours. Longer arrays are of a later version and fine. */
export function parseRow(key: string, text: string): ListenerClaim | undefined {
  if (!isRowKey(key) || text.length > ROW_CHARS_MAX) return undefined;
  const fields = parseJson(text);
  if (!Array.isArray(fields)) return undefined;
  const [namespace, hybridConnection, listenerId, origin]: unknown[] = fields;
  if (typeof namespace !== 'string' || typeof hybridConnection !== 'string') return undefined;
  if (typeof listenerId !== 'string' || typeof origin !== 'string') return undefined;
  return { key, namespace, hybridConnection, listenerId, origin };
}

export function formatRecord(record: Omit<NodeRecord, 'node' | 'epoch'>): StoredRecord {
  const { meshAddress, versions, state } = record;
  const text = JSON.stringify({ meshAddress, versions: [versions.min, versions.max], state });
  return { text, part: digestPart(text) };
}

/** The node's record, or undefined when it is none of ours. Further fields are of a later version and fine. */
export function parseRecord(node: string, epoch: string, text: string): NodeRecord | undefined {
  if (!isNodeId(node) || !isEpoch(epoch) || text.length > ROW_CHARS_MAX) return undefined;
  const fields = parseJson(text);
  if (typeof fields !== 'object' || fields === null) return undefined;
  const meshAddress = 'meshAddress' in fields ? fields.meshAddress : undefined;
  const versions = parseVersions('versions' in fields ? fields.versions : undefined);
  const state = parseState('state' in fields ? fields.state : undefined);
  if (typeof meshAddress !== 'string' || versions === undefined || state === undefined) {
    return undefined;
  }
  return { node, epoch, meshAddress, versions, state };
}

function parseVersions(value: unknown): MeshVersions | undefined {
  if (!Array.isArray(value)) return undefined;
  const [min, max]: unknown[] = value;
  return typeof min === 'number' && typeof max === 'number' ? { min, max } : undefined;
}

function parseState(value: unknown): NodeState | undefined {
  return value === 'active' || value === 'draining' ? value : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Foreign data: the caller ignores and counts it.
    return undefined;
  }
}
