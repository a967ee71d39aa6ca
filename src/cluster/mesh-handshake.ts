// How two nodes make a link. Each proves to the other that it is a member, over nonces of both, so that
// nothing recorded is of use again; ids, epochs, versions and names of Unix sockets are under the proof.
//
//     dials                                              is dialled
//       │ hello: versions, who I am, whom I want, nonce      │
//       ├───────────────────────────────────────────────────▶│
//       │          challenge: version, who I am, nonce       │
//       │◀───────────────────────────────────────────────────┤
//       │ proof over both                                    │
//       ├───────────────────────────────────────────────────▶│  now it believes
//       │          welcome: proof over both                  │
//       │◀───────────────────────────────────────────────────┤
//   now it believes
//
// Instead of any of these either side may send `refused` and close. The one that dials proves itself
// first: the port is open to strangers, the address dialled comes from the directory.
import { randomBytes } from 'node:crypto';
import {
  commonVersion,
  encodeJson,
  parseJsonRecord,
  type JsonRecord,
  type MeshRecord,
  type VersionRange,
} from '../protocol/mesh-frames.ts';
import { isSameProof, type MeshKeys } from './mesh-credentials.ts';
import { isLocalName } from './mesh-local.ts';
import type { MeshRefusal } from './mesh-refusals.ts';
import type { HandshakeEnd, RecordSocket } from './record-socket.ts';

/** One life of a node: `nodeId` may be used again by a later process, which has another epoch. */
export interface NodeIdentity {
  readonly nodeId: string;
  /**
   * `{process}.{n}`, as the directory has it: the process is unique, and takes a new n with each lease
   * it takes. A link is with a process, whatever its n.
   */
  readonly epoch: string;
}

export function isSameProcess(epochA: string, epochB: string): boolean {
  return processOf(epochA) === processOf(epochB);
}

function processOf(epoch: string): string {
  const end = epoch.lastIndexOf('.');
  return end === -1 ? epoch : epoch.slice(0, end);
}

/** Who is at the other end, proven. */
export interface LinkPeer extends NodeIdentity {
  readonly version: number;
  /** Its Unix socket (see mesh-local.ts); undefined when it has none, or is of a build that did not say. */
  readonly localName?: string | undefined;
}

export interface HandshakeDeps {
  readonly keys: MeshKeys;
  readonly versions: VersionRange;
  readonly us: NodeIdentity;
  /** Name of our Unix socket. */
  readonly localName?: string | undefined;
}

export type HandshakeOutcome =
  | { readonly peer: LinkPeer }
  /** `nodeId`: whom it claimed to be, if it came that far. */
  | { readonly ended: HandshakeEnd; readonly nodeId?: string };

const NODE_ID = /^[\w.-]{1,64}$/;
const EPOCH = /^[\w.-]{1,64}$/;
const NONCE_HEX = /^[0-9a-f]{64}$/;
const NONCE_BYTES = 32;
const DIALLER_LABEL = 'halfway mesh link: the one that dials';
const DIALLED_LABEL = 'halfway mesh link: the one that is dialled';

export function isNodeId(text: string): boolean {
  return NODE_ID.test(text);
}

/** Dials: finds at the other end the process that is `wanted`. The caller sets the time limit. */
export async function dialHandshake(
  records: RecordSocket,
  wanted: NodeIdentity,
  deps: HandshakeDeps,
): Promise<HandshakeOutcome> {
  const { keys, versions } = deps;
  const nodeId = wanted.nodeId;
  const hello = encodeJson({
    ...formatIdentity(deps),
    wantedNode: wanted.nodeId,
    wantedEpoch: wanted.epoch,
  });
  records.send('hello', hello);

  const challenge = await expectRecord(records, 'challenge');
  if ('reason' in challenge) return { ended: challenge, nodeId };
  const peer = parseChallenge(parseJsonRecord(challenge.payload));
  if (peer === undefined) return { ended: records.refuse('malformed'), nodeId };
  if (peer.version < versions.min || peer.version > versions.max) {
    return { ended: records.refuse('version-unknown', describe(versions)), nodeId };
  }
  if (peer.nodeId !== wanted.nodeId) {
    return { ended: records.refuse('wrong-node', `wanted ${wanted.nodeId}`), nodeId };
  }
  if (!isSameProcess(peer.epoch, wanted.epoch)) {
    return { ended: records.refuse('wrong-process', `of ${nodeId}`), nodeId };
  }
  records.send('proof', keys.proof(records.socket, DIALLER_LABEL, hello, challenge.payload));

  const welcome = await expectRecord(records, 'welcome');
  if ('reason' in welcome) return { ended: welcome, nodeId };
  const due = keys.proof(records.socket, DIALLED_LABEL, hello, challenge.payload);
  if (!isSameProof(welcome.payload, due)) return { ended: records.refuse('proof-wrong'), nodeId };
  return { peer };
}

/**
 * Is dialled: `hello` has been read. `knownEpoch`: of a node, as far as it is known here. `noRoom`: why a
 * member cannot have its link now.
 */
export async function acceptHandshake(
  records: RecordSocket,
  hello: MeshRecord,
  deps: HandshakeDeps & {
    readonly knownEpoch: (nodeId: string) => string | undefined;
    readonly noRoom: (nodeId: string) => MeshRefusal | undefined;
  },
): Promise<HandshakeOutcome> {
  const { keys, versions, us, knownEpoch, noRoom } = deps;
  const said = parseHello(parseJsonRecord(hello.payload));
  if (said === undefined) return { ended: records.refuse('malformed') };
  const { nodeId, epoch, localName } = said;
  const version = commonVersion(versions, said.versions);
  if (version === undefined) {
    return { ended: records.refuse('version-unknown', describe(versions)), nodeId };
  }
  if (nodeId === us.nodeId) return { ended: records.refuse('own-id'), nodeId };
  if (said.wanted.nodeId !== us.nodeId) {
    return { ended: records.refuse('wrong-node', `this is ${us.nodeId}`), nodeId };
  }
  if (nodeId > us.nodeId) return { ended: records.refuse('wrong-side'), nodeId };
  const challenge = encodeJson({
    version,
    node: us.nodeId,
    epoch: us.epoch,
    nonce: newNonce(),
    local: deps.localName,
  });
  records.send('challenge', challenge);

  const proof = await expectRecord(records, 'proof');
  if ('reason' in proof) return { ended: proof, nodeId };
  const due = keys.proof(records.socket, DIALLER_LABEL, hello.payload, challenge);
  if (!isSameProof(proof.payload, due)) return { ended: records.refuse('proof-wrong'), nodeId };
  // Looked at only now: before its proof a stranger could claim any.
  if (!isSameProcess(epoch, knownEpoch(nodeId) ?? epoch)) {
    return { ended: records.refuse('wrong-process', `of ${nodeId}`), nodeId };
  }
  if (!isSameProcess(said.wanted.epoch, us.epoch)) {
    return { ended: records.refuse('wrong-process', `of ${us.nodeId}`), nodeId };
  }
  const obstacle = noRoom(nodeId);
  if (obstacle !== undefined) return { ended: records.refuse(obstacle), nodeId };
  records.send('welcome', keys.proof(records.socket, DIALLED_LABEL, hello.payload, challenge));
  return { peer: { nodeId, epoch, version, localName } };
}

async function expectRecord(
  records: RecordSocket,
  type: MeshRecord['type'],
): Promise<MeshRecord | HandshakeEnd> {
  const next = await records.next();
  return 'reason' in next || next.type === type ? next : records.refuse('out-of-turn');
}

function formatIdentity({ versions, us, localName }: HandshakeDeps): JsonRecord {
  const { min, max } = versions;
  return { min, max, node: us.nodeId, epoch: us.epoch, nonce: newNonce(), local: localName };
}

function parseHello(said: JsonRecord | undefined) {
  const { min, max, node, epoch, wantedNode, wantedEpoch, nonce } = said ?? {};
  if (!isVersion(min) || !isVersion(max)) return undefined;
  if (!isEpoch(epoch) || !isEpoch(wantedEpoch)) return undefined;
  if (!isNodeIdValue(node) || !isNodeIdValue(wantedNode) || !isNonce(nonce)) return undefined;
  return {
    versions: { min, max },
    nodeId: node,
    epoch,
    wanted: { nodeId: wantedNode, epoch: wantedEpoch },
    localName: parseLocalName(said),
  };
}

/** Under which it may also be reached, when it shares our machine. Older builds do not say. */
function parseLocalName(said: JsonRecord | undefined): string | undefined {
  const { local } = said ?? {};
  return isLocalName(local) ? local : undefined;
}

function parseChallenge(said: JsonRecord | undefined): LinkPeer | undefined {
  const { version, node, epoch, nonce } = said ?? {};
  if (!isVersion(version) || !isNodeIdValue(node) || !isEpoch(epoch)) return undefined;
  if (!isNonce(nonce)) return undefined;
  return { nodeId: node, epoch, version, localName: parseLocalName(said) };
}

function newNonce(): string {
  return randomBytes(NONCE_BYTES).toString('hex');
}

function describe({ min, max }: VersionRange): string {
  return `this node speaks ${min} to ${max}`;
}

function isVersion(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

function isEpoch(value: unknown): value is string {
  return typeof value === 'string' && EPOCH.test(value);
}

function isNodeIdValue(value: unknown): value is string {
  return typeof value === 'string' && isNodeId(value);
}

function isNonce(value: unknown): value is string {
  return typeof value === 'string' && NONCE_HEX.test(value);
}
