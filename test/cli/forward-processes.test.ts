import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { memoryOf, startForward, type ForwardProcess } from '../support/forward-process.ts';
import { Inbox } from '../support/inbox.ts';
import { accepts, freePort } from '../support/ports.ts';
import { ROOT_KEY } from '../support/relay.ts';
import { readToEnd, startTcpEcho, startTcpTarget } from '../support/tcp-target.ts';
import { until, within } from '../support/within.ts';
import { runServe } from '../support/worker-relay.ts';

// Relay and both ends of `halfway forward`, each a process of its own.

const TEST_MS = 180_000;
const MIB = 1 << 20;
const FILE_BYTES = 64 * MIB;
/** What a process may grow by that has carried a quarter of the file before. */
const GROWTH_BYTES_MAX = 48 * MIB;

const cleanups: (() => PromiseLike<unknown> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

type Relay = ReturnType<typeof runServe>;

async function startRelay(port: number): Promise<Relay> {
  const relay = runServe(['--port', String(port), '--admin-port', '0']);
  cleanups.push(() => {
    relay.signal('SIGKILL');
    return relay.end;
  });
  await until('the relay', () => accepts(port), 30_000);
  return relay;
}

async function startEnd(relayPort: number, ...argv: readonly string[]): Promise<ForwardProcess> {
  const rule = `SharedAccessKeyName=root;SharedAccessKey=${ROOT_KEY}`;
  const end = await startForward(`Endpoint=http://127.0.0.1:${relayPort};${rule}`, argv);
  cleanups.push(() => end[Symbol.asyncDispose]());
  return end;
}

function client(port: number): Socket {
  const socket = connect({ port, allowHalfOpen: true });
  socket.on('error', () => undefined);
  cleanups.push(() => void socket.destroy());
  return socket;
}

describe.each(['websocket', 'poll'])('forward, over %s', transport => {
  test(
    'carries 64 MiB whole, and no process keeps them',
    async () => {
      const received = new Inbox<string>('the file');
      await using target = await startTcpTarget(socket => {
        const hash = createHash('sha256');
        socket.on('data', (chunk: Buffer) => hash.update(chunk));
        socket.once('end', () => {
          received.put(hash.digest('hex'));
          socket.end();
        });
      });
      const relayPort = await freePort();
      const relay = await startRelay(relayPort);
      const how = ['--transport', transport];
      const remote = await startEnd(relayPort, '-R', `127.0.0.1:${target.port}`, ...how);
      const local = await startEnd(relayPort, '-L', '0', ...how);
      const send = async (bytes: number): Promise<string> => {
        const socket = client(local.port);
        const hash = createHash('sha256');
        const piece = randomBytes(MIB);
        for (let sent = 0; sent < bytes; sent += piece.length) {
          piece.writeUInt32BE(sent);
          hash.update(piece);
          // Written before the next piece is made of the same bytes.
          await new Promise<void>(resolve => void socket.write(piece, () => resolve()));
        }
        socket.end();
        await readToEnd(socket, 90_000);
        return hash.digest('hex');
      };
      expect(await send(FILE_BYTES / 4)).toBe(await received.next());
      const pids = [local.pid, relay.pid, remote.pid];
      const before = pids.map(pid => memoryOf(pid).peakBytes);
      expect(await send(FILE_BYTES)).toBe(await received.next());
      const growth = pids.map((pid, i) => memoryOf(pid).peakBytes - (before[i] ?? 0));
      expect(Math.max(...growth)).toBeLessThan(GROWTH_BYTES_MAX);
    },
    TEST_MS,
  );
});

test(
  'forward goes on when a relay that was killed is back, and what was open is broken',
  async () => {
    await using target = await startTcpEcho();
    const relayPort = await freePort();
    const relay = await startRelay(relayPort);
    const remote = await startEnd(relayPort, '-R', `127.0.0.1:${target.port}`);
    const local = await startEnd(relayPort, '-L', '0');
    const open = client(local.port);
    open.write('before');
    await within('the echo', once(open, 'data'));
    const broken = new Promise<void>(resolve => void open.once('close', () => resolve()));
    relay.signal('SIGKILL');
    await within('the break', broken);
    expect(open.readableEnded).toBe(false);
    await until('it is noticed', () => remote.err().includes('; trying again in'));

    const meanwhile = client(local.port);
    await within(
      'the refusal',
      new Promise<void>(resolve => void meanwhile.once('close', () => resolve())),
    );
    await until('both are told', () =>
      /a stream broke: .*\ncannot forward a connection: nothing listens there/.test(local.err()),
    );

    await startRelay(relayPort);
    const times = (): number => remote.err().split('forwarding "hyco"').length - 1;
    await until('it listens again', () => times() === 2, 60_000);
    const again = client(local.port);
    again.end('after');
    expect((await readToEnd(again)).toString()).toBe('after');

    for (const end of [local, remote]) {
      end.signal('SIGTERM');
      expect(await within('the end', end.end, 10_000)).toBe(0);
    }
  },
  TEST_MS,
);
