import { Worker } from 'node:worker_threads';
import type { HttpResponse, us_listen_socket } from 'uWebSockets.js';
import { afterEach, describe, expect, test } from 'vitest';
import { LISTEN_EXCLUSIVE, uWS } from '../../src/transports/uws.ts';
import { requirePlane } from '../support/native-relay.ts';
import { within } from '../support/within.ts';

const plane = requirePlane();

/** Together less than 200 ms: longer the kernel keeps nothing back, whatever it was told. */
const EARLY_MS = 40;
const IN_TIME_MS = 150;

/**
 * A client in a thread of its own, for it must read while this one writes: it counts the bytes that have come into the
 * shared number, wakes whoever waits for that, and posts everything at the end.
 */
const CLIENT = `
  const { workerData, parentPort } = require('node:worker_threads');
  const { connect } = require('node:net');
  const received = new Int32Array(workerData.received);
  const chunks = [];
  const socket = connect(workerData.port, '127.0.0.1', () => {
    socket.write(
      'GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n' +
        'Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n',
    );
  });
  socket.on('data', data => {
    chunks.push(data.toString('latin1'));
    Atomics.add(received, 0, data.length);
    Atomics.notify(received, 0);
    if (chunks.join('').includes('\\r\\n\\r\\n')) socket.destroy();
  });
  socket.on('close', () => parentPort.postMessage(chunks));
`;

describe('gathering()', () => {
  let stop: (() => void) | undefined;
  afterEach(() => stop?.());

  /** What a client gets of a late upgrade, piece by piece. `hasCome` waits for the first of it, while nothing else runs. */
  async function upgradeLate(
    by: (
      response: HttpResponse,
      upgrade: () => void,
      hasCome: (patienceMs: number) => boolean,
    ) => void,
  ): Promise<string[]> {
    const received = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
    const hasCome = (patienceMs: number): boolean =>
      Atomics.wait(received, 0, 0, patienceMs) !== 'timed-out';
    let listening: us_listen_socket | undefined;
    const app = uWS.App().ws('/*', {
      upgrade(response, request, context) {
        const key = request.getHeader('sec-websocket-key');
        response.onAborted(() => {});
        const upgrade = (): void => response.upgrade({}, key, '', '', context);
        setImmediate(() => by(response, upgrade, hasCome));
      },
    });
    const port = await new Promise<number>((resolve, reject) => {
      app.listen('127.0.0.1', 0, LISTEN_EXCLUSIVE, socket => {
        if (socket === false) return reject(new Error('Cannot listen'));
        listening = socket;
        return resolve(uWS.us_socket_local_port(socket));
      });
    });
    const client = new Worker(CLIENT, {
      eval: true,
      workerData: { port, received: received.buffer },
    });
    stop = () => {
      if (listening !== undefined) uWS.us_listen_socket_close(listening);
      app.close();
      void client.terminate();
    };
    return within(
      'the answer',
      new Promise<string[]>(resolve => void client.once('message', resolve)),
    );
  }

  test('makes one piece of a late 101, which leaves when it is whole', async () => {
    const came: boolean[] = [];
    const pieces = await upgradeLate((response, upgrade, hasCome) => {
      plane.gathering(response, () => {
        upgrade();
        came.push(hasCome(EARLY_MS));
      });
      came.push(hasCome(IN_TIME_MS));
    });
    expect(came).toEqual([false, true]);
    expect(pieces).toEqual([
      expect.stringMatching(/^HTTP\/1\.1 101 Switching Protocols\r\n(?:[\w-]+: .*\r\n){4}\r\n$/),
    ]);
  });

  test('keeps nothing back when what it calls throws', async () => {
    const came: boolean[] = [];
    await upgradeLate((response, upgrade, hasCome) => {
      const failing = (): void => {
        upgrade();
        throw new Error('behind the upgrade');
      };
      expect(() => plane.gathering(response, failing)).toThrow('behind the upgrade');
      came.push(hasCome(IN_TIME_MS));
    });
    expect(came).toEqual([true]);
  });

  test('only calls when the socket is closed', async () => {
    const calls: string[] = [];
    const pieces = await upgradeLate(response => {
      response.close();
      plane.gathering(response, () => void calls.push('called'));
    });
    expect(calls).toEqual(['called']);
    expect(pieces).toEqual([]);
  });
});
