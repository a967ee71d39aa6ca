import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { breakSocket } from '../../src/cli/forward/couple.ts';
import { HAS_NATIVE } from '../support/data-planes.ts';
import { Inbox } from '../support/inbox.ts';
import { freePort } from '../support/ports.ts';
import { LISTEN_KEY, ROOT_KEY, SEND_KEY, startRelay, type TestRelay } from '../support/relay.ts';
import { readToEnd, startTcpEcho, startTcpTarget } from '../support/tcp-target.ts';
import { until, within } from '../support/within.ts';
import { commandResult, runCommand, type RunningCommand } from './run-command.ts';

// Both ends of `halfway forward` in this process, a real relay between them.

const STALL_BYTES = 200_000_000;
/** What may wait on the way: sockets of the system on three hops, and a window or two of ours. */
const STALLED_BYTES_MAX = 100_000_000;

let relay: TestRelay;
const folder = mkdtempSync(join(tmpdir(), 'halfway-forward-'));
beforeAll(async () => {
  relay = await startRelay();
});
afterAll(async () => {
  await relay.server.stop();
  rmSync(folder, { recursive: true });
});

const cleanups: (() => PromiseLike<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

function env(rule = `SharedAccessKeyName=root;SharedAccessKey=${ROOT_KEY}`) {
  return { HALFWAY_CONNECTION_STRING: `Endpoint=http://127.0.0.1:${relay.port};${rule}` };
}

function forward(...argv: readonly string[]): RunningCommand {
  const command = runCommand(['forward', 'hyco', ...argv], { env: env() });
  cleanups.push(() => command[Symbol.asyncDispose]());
  return command;
}

async function remoteEnd(to: string, ...more: readonly string[]): Promise<RunningCommand> {
  const command = forward('-R', to, ...more);
  await command.saw('forwarding "hyco"');
  return command;
}

async function localEnd(
  ...more: readonly string[]
): Promise<RunningCommand & { readonly port: number }> {
  const command = forward('-L', '0', ...more);
  await command.saw('forwarding 127.0.0.1:');
  return { ...command, port: Number(/127\.0\.0\.1:(\d+) to/.exec(command.err())?.[1]) };
}

function client(to: NetConnectOpts): Socket {
  const socket = connect({ ...to, allowHalfOpen: true });
  // Whether and how it ended is asked of it after its `close`.
  socket.on('error', () => undefined);
  cleanups.push(() => breakSocket(socket));
  return socket;
}

function closed(socket: Socket): Promise<void> {
  return new Promise(resolve => void socket.once('close', () => resolve()));
}

/** Both ends, and a connection through them to what `onSocket` gets. */
async function through(onSocket: (socket: Socket) => void, ...more: readonly string[]) {
  const target = await startTcpTarget(onSocket);
  cleanups.push(() => target[Symbol.asyncDispose]());
  const remote = await remoteEnd(`127.0.0.1:${target.port}`, ...more);
  const local = await localEnd(...more);
  return { remote, local, socket: client({ port: local.port }) };
}

describe.each(['websocket', 'poll'])('forward, over %s', transport => {
  const how = ['--transport', transport];

  test('carries bytes both ways, and ends', async () => {
    const { socket, remote } = await through(end => void end.pipe(end), ...how);
    const bytes = randomBytes(3_000_000);
    socket.end(bytes);
    expect((await readToEnd(socket, 20_000)).equals(bytes)).toBe(true);
    expect(remote.err().includes('long-polling')).toBe(transport === 'poll');
  });

  test.runIf(HAS_NATIVE)('keeps the direction open whose end has not come', async () => {
    const ends = new Inbox<Socket>('a connection');
    const { socket } = await through(end => ends.put(end), ...how);
    socket.end('question');
    const first = await ends.next();
    expect((await readToEnd(first)).toString()).toBe('question');
    first.end('answer');
    expect((await readToEnd(socket)).toString()).toBe('answer');
  });

  test.runIf(HAS_NATIVE)('keeps it open as well where the target ends first', async () => {
    const ends = new Inbox<Socket>('a connection');
    const { socket } = await through(end => ends.put(end), ...how);
    const target = await ends.next();
    target.end('all I have');
    expect((await readToEnd(socket)).toString()).toBe('all I have');
    socket.write('and ');
    socket.end('mine');
    expect((await readToEnd(target)).toString()).toBe('and mine');
  });

  test('stops reading what the other end does not take, and takes no break for an end', async () => {
    const ends = new Inbox<Socket>('a connection');
    const { socket } = await through(end => ends.put(end.pause()), ...how);
    const target = await ends.next();
    let writtenBytes = 0;
    const piece = Buffer.alloc(1_000_000);
    const pump = (): void => {
      while (writtenBytes < STALL_BYTES) {
        writtenBytes += piece.length;
        if (!socket.write(piece)) return;
      }
    };
    socket.on('drain', pump);
    pump();
    let before = -1;
    await until(
      'nothing is written any more',
      async () => {
        before = writtenBytes;
        await new Promise(resolve => void setTimeout(resolve, 700));
        return before === writtenBytes;
      },
      20_000,
    );
    expect(writtenBytes).toBeLessThan(STALLED_BYTES_MAX);
    let readBytes = 0;
    target.on('data', (chunk: Buffer) => {
      readBytes += chunk.length;
    });
    target.resume();
    await until('it goes on', () => writtenBytes > before && readBytes > before, 20_000);
    const end = new Promise<void>(resolve => void target.once('end', resolve));
    socket.resetAndDestroy();
    await within('the break', Promise.race([closed(target), end]), 20_000);
    // Behind bytes that were not read yet Node shows a reset as an end; but then there is no peer any more.
    expect(target.remoteAddress).toBeUndefined();
  });
});

describe('forward', () => {
  test('carries many streams at once, none mixed up with another', async () => {
    const target = await startTcpEcho();
    cleanups.push(() => target[Symbol.asyncDispose]());
    await remoteEnd(String(target.port));
    const local = await localEnd();
    const echoes = Array.from({ length: 100 }, async () => {
      const socket = client({ port: local.port });
      const bytes = randomBytes(50_000);
      socket.end(bytes);
      return (await readToEnd(socket, 30_000)).equals(bytes);
    });
    expect(await Promise.all(echoes)).toEqual(echoes.map(() => true));
  }, 40_000);

  test('joins Unix sockets, of which its own is for its user alone', async () => {
    const path = join(folder, 'target.sock');
    const target = await startTcpEcho({ path });
    cleanups.push(() => target[Symbol.asyncDispose]());
    await remoteEnd(`unix:${path}`);
    const own = join(folder, 'own.sock');
    const local = forward('-L', `unix:${own}`);
    await local.saw('forwarding unix:');
    expect(statSync(own).mode & 0o777).toBe(0o600);
    const socket = client({ path: own });
    socket.end('hello');
    expect((await readToEnd(socket)).toString()).toBe('hello');
    local.signal('SIGTERM');
    expect(await within('the end', local.exitCode)).toBe(0);
    expect(existsSync(own)).toBe(false);
  });

  test('breaks the one end where the other breaks', async () => {
    const ends = new Inbox<Socket>('a connection');
    const { socket } = await through(end => ends.put(end));
    const broken = closed(socket);
    (await ends.next()).resetAndDestroy();
    await within('the break', broken);
    expect(socket.readableEnded).toBe(false);
  });

  test('tells the local end why the target cannot be reached, but not where it is', async () => {
    const port = await freePort();
    const remote = await remoteEnd(`127.0.0.1:${port}`);
    const local = await localEnd();
    const socket = client({ port: local.port });
    await within('the break', closed(socket));
    await local.saw(
      'cannot forward a connection: refused with 502 The target cannot be reached: nothing listens there',
    );
    expect(local.err()).not.toContain(String(port));
    await remote.saw(`cannot reach 127.0.0.1:${port}: nothing listens there`);
  });

  test('says that there is no listener, and forwards when there is', async () => {
    const local = await localEnd();
    const early = client({ port: local.port });
    await within('the break', closed(early));
    await local.saw('cannot forward a connection: refused with 404');
    const target = await startTcpEcho();
    cleanups.push(() => target[Symbol.asyncDispose]());
    await remoteEnd(`127.0.0.1:${target.port}`);
    const socket = client({ port: local.port });
    socket.end('now');
    expect((await readToEnd(socket)).toString()).toBe('now');
  });

  test.each([
    ['the local end', ['--streams-max', '1'], [], 'as many as may be'],
    ['the remote end', [], ['--streams-max', '1'], 'refused with 503'],
  ])('opens no more streams than --streams-max of %s', async (_, localMore, remoteMore, words) => {
    const target = await startTcpEcho();
    cleanups.push(() => target[Symbol.asyncDispose]());
    await remoteEnd(String(target.port), ...remoteMore);
    const local = await localEnd(...localMore);
    const first = client({ port: local.port });
    first.write('x');
    await within('the echo', once(first, 'data'));
    const second = client({ port: local.port });
    await within('the break', closed(second));
    await local.saw(words);
    first.end();
    await readToEnd(first);
    await until('another one', async () => {
      const third = client({ port: local.port });
      third.write('y');
      return Promise.race([
        once(third, 'data').then(() => true),
        closed(third).then(() => false),
      ]).catch(() => false);
    });
  });

  test.each(['local', 'remote'] as const)(
    'on SIGTERM the %s end takes nothing new and lets what is open end',
    async which => {
      const { socket, ...ends } = await through(end => void end.pipe(end));
      socket.write('before');
      await within('the echo', once(socket, 'data'));
      const end = ends[which];
      end.signal('SIGTERM');
      await end.saw('stopping: 1 streams are open');
      const late = client({ port: ends.local.port });
      await within('the refusal', closed(late));
      const rest = readToEnd(socket);
      socket.end('after');
      expect((await rest).toString()).toBe('after');
      expect(await within('the end', end.exitCode)).toBe(0);
    },
  );

  test('ends streams that go on 5 s after the signal, and at once at a second one', async () => {
    const { socket, local } = await through(end => void end.pipe(end));
    socket.write('before');
    await within('the echo', once(socket, 'data'));
    local.signal('SIGINT');
    local.signal('SIGINT');
    expect(local.exits).toEqual([1]);
    expect(await within('the end', local.exitCode, 10_000)).toBe(0);
    expect(socket.readableEnded).toBe(false);
  });

  test.each([
    ['neither -L nor -R', []],
    ['both', ['-L', '1', '-R', '2']],
    ['an address that is none', ['-L', 'host']],
    ['an empty host', ['-L', ':80']],
    ['a target without a port', ['-R', 'host:0']],
    ['no number of streams', ['-L', '0', '--streams-max', '0']],
    ['a transport that is none', ['-L', '0', '--transport', 'pigeon']],
    ['a proxy that is none', ['-L', '0', '--proxy', 'socks://127.0.0.1:1']],
    ['no file of certificates', ['-L', '0', '--ca', '/nowhere']],
  ])('ends with 64 for %s', async (_, argv) => {
    expect((await commandResult(['forward', 'hyco', ...argv], { env: env() })).exitCode).toBe(64);
  });

  test('ends with 1 where it cannot listen, and says why', async () => {
    const taken = await startTcpEcho();
    cleanups.push(() => taken[Symbol.asyncDispose]());
    const argv = ['forward', 'hyco', '-L', String(taken.port)];
    const { exitCode, err } = await commandResult(argv, { env: env() });
    expect([exitCode, err]).toEqual([
      1,
      `halfway: Cannot listen at 127.0.0.1:${taken.port}: another program listens there\n`,
    ]);
  });

  test('needs no more than Listen at the one end and Send at the other', async () => {
    const target = await startTcpEcho();
    cleanups.push(() => target[Symbol.asyncDispose]());
    const start = (key: string, ...argv: readonly string[]): RunningCommand => {
      const command = runCommand(['forward', 'hyco', ...argv], { env: env(key) });
      cleanups.push(() => command[Symbol.asyncDispose]());
      return command;
    };
    const listener = `SharedAccessKeyName=listener;SharedAccessKey=${LISTEN_KEY}`;
    await start(listener, '-R', String(target.port)).saw('forwarding "hyco"');
    const own = join(folder, 'rights.sock');
    const sender = `SharedAccessKeyName=sender;SharedAccessKey=${SEND_KEY}`;
    await start(sender, '-L', `unix:${own}`).saw('forwarding unix:');
    const socket = client({ path: own });
    socket.end('hello');
    expect((await readToEnd(socket)).toString()).toBe('hello');
  });
});
