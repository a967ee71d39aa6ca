import { once } from 'node:events';
import { connect, createServer, Socket } from 'node:net';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { MeshKeys } from '../../src/cluster/mesh-credentials.ts';
import {
  decodeRecord,
  encodeRecord,
  MESH_VERSIONS,
  parseJsonRecord,
} from '../../src/protocol/mesh-frames.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { Inbox } from '../support/inbox.ts';
import { makeMeshCertificate } from '../support/mesh-certificates.ts';
import {
  introduce,
  startMeshNode,
  TEST_SECRET,
  type MeshNodeOptions,
  type TestMeshNode,
} from '../support/mesh-node.ts';
import { until, within } from '../support/within.ts';

const OTHER_SECRET = 'another secret of nodes, 0123456789ABCDEF';
const sockets: Socket[] = [];

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});

describe('MeshKeys', () => {
  test('wants a secret of 32 characters or certificates, and does not repeat the secret', () => {
    expect(() => new MeshKeys({})).toThrow('give a shared secret or certificates');
    const short = 'thirty-one characters, not more';
    expect(() => new MeshKeys({ secret: short })).toThrow('at least 32 characters, got 31');
    expect(() => new MeshKeys({ secret: short })).not.toThrow(short);
    expect(() => new MeshKeys({ secret: `${short}!` })).not.toThrow();
  });
});

describe('proof()', () => {
  test('on TLS is the same at both ends, and another on each connection', async () => {
    const keys = new MeshKeys({ secret: TEST_SECRET, certificates: makeMeshCertificate() });
    const server = createTlsServer({ ...keys.tls, requestCert: true });
    const ends = new Inbox<Socket>('TLS connection');
    server.on('secureConnection', socket => ends.put(socket));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const proofs: string[] = [];
    for (let i = 0; i < 2; i += 1) {
      const near = connectTls({ ...keys.tls, port, checkServerIdentity: () => undefined });
      sockets.push(near);
      await once(near, 'secureConnect');
      const far = await ends.next();
      proofs.push(keys.proof(near, 'label', 'part').toString('hex'));
      expect(keys.proof(far, 'label', 'part').toString('hex')).toBe(proofs.at(-1));
    }
    expect(new Set(proofs).size).toBe(2);
    server.close();
  });

  test('is another for another label, other parts, and the same bytes cut otherwise', () => {
    const keys = new MeshKeys({ secret: TEST_SECRET });
    const socket = new Socket();
    const proofs = [
      keys.proof(socket, 'a', 'bc'),
      keys.proof(socket, 'ab', 'c'),
      keys.proof(socket, 'a', 'b', 'c'),
      keys.proof(socket, 'abc'),
    ].map(proof => proof.toString('hex'));
    expect(new Set(proofs).size).toBe(proofs.length);
  });
});

describe('two nodes', () => {
  test('become a link by the same secret', async () => {
    await using nodes = await meet({}, {});
    expect(await nodes.a.events.next()).toBe('up b');
    expect(await nodes.b.events.next()).toBe('up a');
    expect(nodes.a.mesh.links()).toMatchObject([
      {
        nodeId: 'b',
        state: { phase: 'up' },
        peer: { epoch: 'life-of-b.1', version: MESH_VERSIONS.max },
      },
    ]);
  });

  test('that disagree about the secret refuse each other, both say why, and nobody tells it', async () => {
    await using nodes = await meet({}, { credentials: { secret: OTHER_SECRET } });
    const atA = await nodes.a.logged('MeshLinkRefused', 'proof-wrong');
    const atB = await nodes.b.logged('MeshConnectionRefused', 'proof-wrong');
    expect(atA).toMatchObject({ level: 'warn', fields: { by: 'peer', node: 'b' } });
    expect(atB).toMatchObject({ level: 'warn', fields: { by: 'us', node: 'a' } });
    expect(nodes.b.counted).toContain('halfway_mesh_refusals_total proof-wrong us');
    const logs = JSON.stringify([nodes.a.log, nodes.b.log]);
    expect(logs).not.toContain(TEST_SECRET);
    expect(logs).not.toContain(OTHER_SECRET);
    expect(nodes.a.mesh.isUp('b')).toBe(false);
  });

  test('a fault that stays is warned of once', async () => {
    await using nodes = await meet({}, { credentials: { secret: OTHER_SECRET } });
    await until('four attempts', () => refusals(nodes.a).length >= 4);
    expect(
      refusals(nodes.a)
        .map(({ level }) => level)
        .slice(0, 3),
    ).toEqual(['warn', 'debug', 'debug']);
  });

  test.each([
    ['the same version', { min: 1, max: 1 }, { min: 1, max: 1 }, 1],
    ['one minor apart', { min: 1, max: 2 }, { min: 2, max: 3 }, 2],
    ['one minor apart, the other way', { min: 2, max: 3 }, { min: 1, max: 2 }, 2],
    ['ranges of which one holds the other', { min: 1, max: 9 }, { min: 3, max: 4 }, 4],
  ])('with %s use the greatest that both speak', async (_name, a, b, version) => {
    await using nodes = await meet({ versions: a }, { versions: b });
    expect(await nodes.a.events.next()).toBe('up b');
    expect(await nodes.b.events.next()).toBe('up a');
    expect(nodes.a.mesh.links()[0]?.peer?.version).toBe(version);
    expect(nodes.b.mesh.links()[0]?.peer?.version).toBe(version);
  });

  test('without a common version refuse each other, and both say why', async () => {
    await using nodes = await meet(
      { versions: { min: 1, max: 2 } },
      { versions: { min: 3, max: 4 } },
    );
    const atA = await nodes.a.logged('MeshLinkRefused', 'version-unknown');
    expect(atA.fields['detail']).toBe('this node speaks 3 to 4');
    expect(atA.fields['why']).toMatch(/upgrade one minor at a time/);
    await nodes.b.logged('MeshConnectionRefused', 'version-unknown');
  });

  test('one at the address of another is refused', async () => {
    await using a = await startMeshNode({ nodeId: 'a' });
    await using c = await startMeshNode({ nodeId: 'c' });
    a.list.set([{ ...c.node(), nodeId: 'b' }]);
    const atA = await a.logged('MeshLinkRefused', 'wrong-node');
    expect(atA.fields).toMatchObject({ by: 'peer', node: 'b', detail: 'this is c' });
    await c.logged('MeshConnectionRefused', 'wrong-node');
  });

  test('an older process under the id that is looked for is refused', async () => {
    await using nodes = await meet({}, {}, { b: { epoch: 'next-life-of-b.1' } });
    await nodes.a.logged('MeshLinkRefused', 'wrong-process');
    await nodes.b.logged('MeshConnectionRefused', 'wrong-process');
  });

  test('one that comes as another process than the directory knows is refused', async () => {
    await using nodes = await meet({}, {}, { a: { epoch: 'next-life-of-a.1' } });
    await nodes.a.logged('MeshLinkRefused', 'wrong-process');
    const atB = await nodes.b.logged('MeshConnectionRefused', 'wrong-process');
    expect(atB.fields['detail']).toBe('of a');
  });

  test('another lease of the same process is no fault', async () => {
    await using nodes = await meet(
      {},
      {},
      { a: { epoch: 'life-of-a.7' }, b: { epoch: 'life-of-b.9' } },
    );
    expect(await nodes.a.events.next()).toBe('up b');
    expect(await nodes.b.events.next()).toBe('up a');
  });

  test('a node that the directory does not name yet comes in by its proof', async () => {
    await using a = await startMeshNode({ nodeId: 'a' });
    await using b = await startMeshNode({ nodeId: 'b' });
    a.list.set([b.node()]);
    expect(await b.events.next()).toBe('up a');
  });

  test('a node whose id is ours is refused', async () => {
    await using a = await startMeshNode({ nodeId: 'a' });
    await using twin = await startMeshNode({ nodeId: 'b', epoch: 'twin.1' });
    await using proxy = await startFaultProxy(twin.mesh.port);
    a.list.set([twin.node(proxy.port)]);
    await a.events.next();
    const hello = await recordedHello(a, { node: 'b' });
    expect(await sayTo(twin, hello)).toMatchObject({ reason: 'own-id' });
  });

  test('of two nodes the one with the greater id must not dial', async () => {
    await using b = await startMeshNode({ nodeId: 'b' });
    const hello = await recordedHello(b, { node: 'z', wantedNode: 'b' });
    expect(await sayTo(b, hello)).toMatchObject({ reason: 'wrong-side' });
  });

  test.each([
    ['the same authority', true],
    ['another authority', false],
  ])('with certificates of %s', async (_name, isSame) => {
    const certificates = makeMeshCertificate();
    const others = isSame ? certificates : makeMeshCertificate();
    await using nodes = await meet(
      { credentials: { certificates } },
      { credentials: { certificates: others } },
    );
    if (isSame) {
      expect(await nodes.a.events.next()).toBe('up b');
      expect(await nodes.b.events.next()).toBe('up a');
    } else {
      await nodes.a.logged('MeshLinkRefused', 'tls');
      await nodes.b.logged('MeshConnectionRefused', 'tls');
    }
  });

  test('with certificates and a secret need both', async () => {
    const certificates = makeMeshCertificate();
    await using nodes = await meet(
      { credentials: { certificates, secret: TEST_SECRET } },
      { credentials: { certificates, secret: OTHER_SECRET } },
    );
    await nodes.a.logged('MeshLinkRefused', 'proof-wrong');
    await nodes.b.logged('MeshConnectionRefused', 'proof-wrong');
  });

  test('of which only one has certificates refuse each other', async () => {
    const certificates = makeMeshCertificate();
    await using nodes = await meet({}, { credentials: { certificates, secret: TEST_SECRET } });
    await nodes.a.logged('MeshLinkRefused');
    await nodes.b.logged('MeshConnectionRefused', 'tls');
    expect(nodes.b.mesh.isUp('a')).toBe(false);
  });

  test('an address where nobody listens is told once as unreachable', async () => {
    await using a = await startMeshNode({ nodeId: 'a' });
    const gone = await startMeshNode({ nodeId: 'b' });
    const node = gone.node();
    await gone[Symbol.asyncDispose]();
    a.list.set([node]);
    const line = await a.logged('MeshLinkRefused', 'unreachable');
    expect(line.fields).toMatchObject({ node: 'b', address: node.meshAddress });
    expect(String(line.fields['detail'])).toMatch(/ECONNREFUSED/);
  });

  test('an address that is none is told', async () => {
    await using a = await startMeshNode({ nodeId: 'a' });
    a.list.set([{ nodeId: 'b', epoch: 'x.1', meshAddress: 'no-port' }]);
    const line = await a.logged('MeshLinkRefused', 'unreachable');
    expect(line.fields['detail']).toBe('"no-port" is not host:port');
  });
});

describe('a stranger at the mesh port', () => {
  test('that repeats a recorded handshake is refused', async () => {
    await using a = await startMeshNode({ nodeId: 'a' });
    await using b = await startMeshNode({ nodeId: 'b' });
    await using proxy = await startFaultProxy(b.mesh.port);
    proxy.isRecording = true;
    a.list.set([b.node(proxy.port)]);
    await a.events.next();
    const recorded = Buffer.concat(proxy.recorded['to-target']);
    expect(await sayTo(b, recorded)).toMatchObject({ reason: 'proof-wrong' });
    await b.logged('MeshConnectionRefused', 'proof-wrong');
    expect(b.mesh.isUp('a')).toBe(true);
  });

  test('that plays back what the dialled one said cannot pass for it', async () => {
    await using a = await startMeshNode({ nodeId: 'a' });
    await using b = await startMeshNode({ nodeId: 'b' });
    await using proxy = await startFaultProxy(b.mesh.port);
    proxy.isRecording = true;
    a.list.set([b.node(proxy.port)]);
    await a.events.next();
    const recorded = Buffer.concat(proxy.recorded['to-client']);
    await using player = await startPlayer(recorded);
    a.list.set([b.node(player.port)]);
    proxy.cut();
    const line = await a.logged('MeshLinkRefused', 'proof-wrong');
    expect(line.fields['by']).toBe('us');
  });

  test.each([
    ['speaks HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), 'not-mesh'],
    ['speaks TLS', Buffer.from('16030100050100000100', 'hex'), 'not-mesh'],
    ['says too much', Buffer.from('48576d0101ffff', 'hex'), 'oversized'],
    ['begins with an unknown record', Buffer.from('48576d01770000', 'hex'), 'malformed'],
    ['begins with a proof', encodeRecord('proof', new Uint8Array(32)), 'out-of-turn'],
    ['says hello without a name', encodeRecord('hello', Buffer.from('{}')), 'malformed'],
    ['says hello in no JSON', encodeRecord('hello', Buffer.from('{')), 'malformed'],
    ['opens a stream nobody expects', encodeRecord('stream', new Uint8Array(60)), 'closed'],
  ])('that %s is refused, and told why', async (_name, bytes, reason) => {
    await using b = await startMeshNode({ nodeId: 'b' });
    expect(await sayTo(b, bytes)).toMatchObject({ reason });
    await b.logged('MeshConnectionRefused', reason === 'closed' ? 'stream-unknown' : reason);
    await until('it is forgotten', () => b.mesh.stats().strangers === 0);
  });

  test('that says nothing is cut in time', async () => {
    await using b = await startMeshNode({ nodeId: 'b', limits: { handshakeTimeoutMs: 100 } });
    expect(await sayTo(b, Buffer.alloc(0))).toMatchObject({ reason: 'handshake-late' });
    await b.logged('MeshConnectionRefused', 'handshake-late');
  });

  test('that stops after its hello is cut in time', async () => {
    await using b = await startMeshNode({ nodeId: 'b', limits: { handshakeTimeoutMs: 100 } });
    const hello = await recordedHello(b, { node: 'a', wantedNode: 'b' });
    const socket = await knock(b);
    socket.write(hello);
    const chunks: Buffer[] = [];
    socket.on('data', chunk => chunks.push(chunk));
    await within('end', once(socket, 'end'));
    const challenge = decodeRecord(Buffer.concat(chunks));
    if (typeof challenge !== 'object') throw new Error('No challenge came');
    expect(challenge.record.type).toBe('challenge');
    const refused = decodeRecord(Buffer.concat(chunks).subarray(challenge.bytesRead));
    expect(refused).toMatchObject({ record: { type: 'refused' } });
  });

  test('pushes out the oldest of too many, so that a node still comes in', async () => {
    await using a = await startMeshNode({ nodeId: 'a' });
    await using b = await startMeshNode({ nodeId: 'b', limits: { strangersMax: 4 } });
    const idle: Socket[] = [];
    for (let i = 0; i < 20; i += 1) idle.push(await knock(b));
    await b.logged('MeshConnectionRefused', 'crowded');
    await until('only the newest stay', () => b.mesh.stats().strangers <= 4);
    introduce(a, b);
    expect(await b.events.next()).toBe('up a');
    expect(b.mesh.stats().strangers).toBeLessThanOrEqual(4);
  });

  test('fills no log: one warning for each reason in a while', async () => {
    await using b = await startMeshNode({ nodeId: 'b' });
    for (let i = 0; i < 5; i += 1) await sayTo(b, Buffer.from('nonsense'));
    const lines = b.log.filter(({ fields }) => fields['reason'] === 'not-mesh');
    expect(lines.map(({ level }) => level)).toEqual(['warn', 'debug', 'debug', 'debug', 'debug']);
  });
});

/** Nodes `a` and `b`, introduced to each other; `known`: what both are told instead of the truth. */
async function meet(
  a: Partial<MeshNodeOptions>,
  b: Partial<MeshNodeOptions>,
  known: { readonly a?: object; readonly b?: object } = {},
): Promise<{ readonly a: TestMeshNode; readonly b: TestMeshNode } & AsyncDisposable> {
  const nodeA = await startMeshNode({ nodeId: 'a', ...a });
  const nodeB = await startMeshNode({ nodeId: 'b', ...b });
  nodeB.list.set([{ ...nodeA.node(), ...known.a }]);
  nodeA.list.set([{ ...nodeB.node(), ...known.b }]);
  return {
    a: nodeA,
    b: nodeB,
    [Symbol.asyncDispose]: async () => {
      await nodeA[Symbol.asyncDispose]();
      await nodeB[Symbol.asyncDispose]();
    },
  };
}

function refusals(node: TestMeshNode): TestMeshNode['log'] {
  return node.log.filter(({ fields }) => fields['event'] === 'MeshLinkRefused');
}

async function knock(node: TestMeshNode): Promise<Socket> {
  const socket = connect({ port: node.mesh.port, host: '127.0.0.1', allowHalfOpen: true });
  sockets.push(socket);
  socket.on('error', () => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** What a stranger is told when it says `bytes`: the last record, or that the connection was closed. */
async function sayTo(node: TestMeshNode, bytes: Uint8Array): Promise<unknown> {
  const socket = await knock(node);
  const chunks: Buffer[] = [];
  socket.on('data', chunk => chunks.push(chunk));
  const over = Promise.race([once(socket, 'end'), once(socket, 'close')]);
  socket.write(bytes);
  await within('end of the connection', over);
  socket.destroy();
  let rest = Buffer.concat(chunks);
  let last: unknown = { reason: 'closed' };
  for (;;) {
    const decoded = decodeRecord(rest);
    if (typeof decoded !== 'object') return last;
    last = parseJsonRecord(decoded.record.payload);
    rest = rest.subarray(decoded.bytesRead);
  }
}

/** A hello as this build says it, with some fields changed. */
async function recordedHello(from: TestMeshNode, changes: object): Promise<Uint8Array> {
  await using server = await startPlayer(Buffer.alloc(0));
  await using dialler = await startMeshNode({ nodeId: 'A-recorded' });
  dialler.list.set([from.node(server.port)]);
  const hello = decodeRecord(await server.heard());
  if (typeof hello !== 'object') throw new Error('No hello came');
  const said = parseJsonRecord(hello.record.payload);
  expect(Object.keys(said ?? {}).toSorted()).toEqual(
    ['epoch', 'max', 'min', 'node', 'nonce', 'wantedEpoch', 'wantedNode'].toSorted(),
  );
  return encodeRecord('hello', Buffer.from(JSON.stringify({ ...said, ...changes })));
}

/** A port that plays back bytes to whoever comes, and hears what they say. */
async function startPlayer(
  bytes: Uint8Array,
): Promise<{ readonly port: number; heard(): Promise<Buffer> } & AsyncDisposable> {
  const heard = new Inbox<Buffer>('hello');
  const server = createServer(socket => {
    sockets.push(socket);
    socket.on('error', () => socket.destroy());
    socket.on('data', chunk => heard.put(chunk));
    if (bytes.length > 0) socket.write(bytes);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    heard: () => heard.next(),
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise(resolve => void server.close(resolve));
    },
  };
}
