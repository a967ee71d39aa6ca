/**
 * Every way the mesh says no to a connection: what logs of both sides say, and the `reason` label of
 * metrics. A label never changes once released.
 */
export const MESH_REFUSALS = {
  'not-mesh': 'These bytes are not of the mesh protocol: this is the port for nodes of a cluster',
  oversized: 'A record or message is longer than allowed',
  malformed: 'A record or message cannot be understood',
  'out-of-turn': 'A record came when another was due',
  tls: 'TLS could not be agreed upon: both need certificates of the same authority',
  'version-unknown':
    'No version of the mesh protocol is spoken by both: upgrade one minor at a time',
  'proof-wrong': 'The proof does not fit the challenge: another secret, or a replay',
  'own-id': 'The peer claims to be this very node: every node needs an id of its own',
  'wrong-node': 'Another node was expected at this address',
  'wrong-side': 'Of two nodes the one with the smaller id dials',
  'wrong-process': 'Another process of that node id was expected: one of the two is out of date',
  'handshake-late': 'The handshake was not finished in time',
  crowded: 'Too many connections are unfinished: the oldest gives way',
  'links-max': 'This node has as many links as it may have',
  'stream-unknown': 'No stream is expected under this key: unknown, used, or too late',
  'stream-forged': 'The proof of the stream is wrong',
  'streams-max': 'This node carries as many streams as it may',
  closing: 'This node is shutting down',
} as const satisfies Record<string, string>;

export type MeshRefusal = keyof typeof MESH_REFUSALS;

export function isMeshRefusal(text: string): text is MeshRefusal {
  return Object.hasOwn(MESH_REFUSALS, text);
}
