import { crc32 } from 'node:zlib';
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OPCODES } from '../../src/protocol/frames.ts';
import { dialSender, openListener, type RawPair } from '../support/azure-clients.ts';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { requirePlane } from '../support/native-relay.ts';
import { open as openSocket, type RawWebSocket } from '../support/raw-websocket.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import type { TestRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';

const MESSAGES = Number(process.env['HALFWAY_SOAK_MESSAGES'] ?? 200_000);
const HEAD_BYTES = 8;
const NOISE = randomBytes(200_000);

/** A pair whose sender is on one node and whose rendezvous on another; the control channel on a third. */
describe('a pair across nodes', () => {
  let redis: TestRedis;
  let cluster: TestCluster;
  beforeAll(async () => {
    redis = await startRedis(['--maxmemory-policy', 'noeviction']);
    cluster = await startCluster({ redisUrl: redis.url, options: { dataPlane: 'native' } });
  }, 30_000);
  afterAll(async () => {
    await cluster[Symbol.asyncDispose]();
    await redis[Symbol.asyncDispose]();
  });

  const plane = requirePlane();

  function node(index: number): TestRelay {
    const found = cluster.nodes[index];
    if (found === undefined) throw new Error('No such node');
    return found;
  }

  async function join(): Promise<RawPair> {
    const [senderNode, rendezvousNode, controlNode] = [node(0), node(1), node(2)];
    const control = await openListener(controlNode);
    const known = 'halfway_cluster_listeners{where="elsewhere"}';
    await until('the listener is known', async () => (await senderNode.metric(known)) === 1);
    const dialling = dialSender(senderNode);
    const { address } = await control.nextAccept();
    const listener = await openSocket(elsewhere(address, rendezvousNode));
    const { socket: sender } = await within('the sender', dialling.answer);
    if (sender === undefined) throw new Error('The sender was refused');
    return { sender, listener, control };
  }

  async function leave({ sender, listener, control }: RawPair): Promise<void> {
    sender.fin();
    listener.fin();
    await until('no leg left', () => plane.stats().legs === 0);
    await control.control.close();
    const known = 'halfway_cluster_listeners{where="elsewhere"}';
    await until('it is forgotten', async () => (await node(0).metric(known)) === 0);
    await until('no stream left', async () => {
      const counts = await Promise.all(
        cluster.nodes.map(async one => one.metric('halfway_mesh_streams')),
      );
      return counts.every(count => count === 0);
    });
  }

  test('is made of native legs on both nodes', async () => {
    const before = plane.stats();
    const pair = await join();
    pair.sender.send('to the listener');
    expect(await pair.listener.nextText()).toBe('to the listener');
    pair.listener.send('to the sender');
    expect(await pair.sender.nextText()).toBe('to the sender');
    // All nodes of this test share one plane: a client and a stream at each of two nodes.
    const { legs, rawLegs, splices, parkedLegs, adoptedTotal } = plane.stats();
    expect({ legs, rawLegs, splices, parkedLegs }).toEqual({
      legs: 4,
      rawLegs: 2,
      splices: 2,
      parkedLegs: 0,
    });
    expect(adoptedTotal - before.adoptedTotal).toBe(2);
    pair.sender.sendClose(1000);
    await pair.listener.nextClose();
    pair.listener.sendClose(1000);
    await pair.sender.nextClose();
    await leave(pair);
  });

  test.each(['sender', 'listener'] as const)(
    'passes a Close of the %s with code and reason, and the answer with its own',
    async from => {
      const pair = await join();
      const [own, other] =
        from === 'sender' ? [pair.sender, pair.listener] : [pair.listener, pair.sender];
      own.sendClose(4321, 'gründlich fertig');
      expect(await other.nextClose()).toEqual({ code: 4321, reason: 'gründlich fertig' });
      // A half-close: the other may go on.
      for (let i = 0; i < 300; i += 1) other.send(`still ${i}`);
      for (let i = 0; i < 300; i += 1) expect(await own.nextText()).toBe(`still ${i}`);
      other.sendClose(3000, 'gut');
      expect(await own.nextClose()).toEqual({ code: 3000, reason: 'gut' });
      await Promise.all([own.ended(), other.ended()]);
      await leave(pair);
    },
  );

  test.each(['sender', 'listener'] as const)(
    'tells the loss of the %s as on one node: 1001 behind its last words',
    async from => {
      const pair = await join();
      const [own, other] =
        from === 'sender' ? [pair.sender, pair.listener] : [pair.listener, pair.sender];
      own.send('last words');
      expect(await other.nextText()).toBe('last words');
      await own.reset();
      expect((await other.nextClose()).code).toBe(1001);
      await other.ended();
      await leave(pair);
    },
  );

  test('gives a side its own code back when the other is lost after its Close', async () => {
    const pair = await join();
    pair.sender.sendClose(4007, 'bye');
    expect((await pair.listener.nextClose()).code).toBe(4007);
    await pair.listener.reset();
    expect((await pair.sender.nextClose()).code).toBe(4007);
    await pair.sender.ended();
    await leave(pair);
  });

  test('tells a broken rule to both, and ends both', async () => {
    const pair = await join();
    pair.sender.sendRaw(Uint8Array.of(0xff, 0xff));
    expect((await pair.sender.nextClose()).code).toBe(1002);
    expect((await pair.listener.nextClose()).code).toBe(1002);
    await Promise.all([pair.sender.ended(), pair.listener.ended()]);
    await leave(pair);
  });

  test(
    `carries ${MESSAGES} random messages both ways, none changed, lost or out of order`,
    { timeout: 120_000 },
    async () => {
      const pair = await join();
      const each = MESSAGES / 2;
      await Promise.all([
        sendAll(pair.sender, each),
        sendAll(pair.listener, each),
        receiveAll(pair.listener, each),
        receiveAll(pair.sender, each),
      ]);
      pair.sender.sendClose(1000);
      await pair.listener.nextClose();
      pair.listener.sendClose(1000);
      await pair.sender.nextClose();
      await leave(pair);
    },
  );
});

/** The same address at another node, as a balancer would have it. */
function elsewhere(address: string, relay: TestRelay): string {
  const url = new URL(address);
  return address.replace(url.host, `127.0.0.1:${relay.port}`);
}

/** Number and checksum, then bytes cut from a random block; one in fifty in fragments, one in a hundred long. */
async function sendAll(socket: RawWebSocket, count: number): Promise<void> {
  for (let number = 0; number < count; number += 1) {
    const lengthMax = number % 100 === 0 ? 150_000 : 1_000;
    const length = HEAD_BYTES + Math.floor(Math.random() * lengthMax);
    const start = Math.floor(Math.random() * (NOISE.length - length));
    const bytes = Buffer.from(NOISE.subarray(start, start + length));
    bytes.writeUInt32LE(number, 0);
    bytes.writeUInt32LE(crc32(bytes.subarray(HEAD_BYTES)), 4);
    if (number % 50 === 7) {
      const cut = Math.floor(Math.random() * length);
      socket.send(bytes.subarray(0, cut), { opcode: OPCODES.binary, fin: false });
      socket.send(bytes.subarray(cut), { opcode: OPCODES.continuation });
    } else {
      socket.send(bytes);
    }
    if (number % 500 === 499) await socket.flushed();
  }
}

async function receiveAll(socket: RawWebSocket, count: number): Promise<void> {
  for (let number = 0; number < count; number += 1) {
    const { payload } = await socket.nextMessage();
    const isWhole =
      payload.readUInt32LE(0) === number &&
      payload.readUInt32LE(4) === crc32(payload.subarray(HEAD_BYTES));
    if (!isWhole) throw new Error(`Message ${number} came out changed`);
  }
}
