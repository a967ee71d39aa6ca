import { connect } from 'node:net';
import type { us_listen_socket } from 'uWebSockets.js';
import { systemClock, type CancelTimer, type Clock } from '../base/clock.ts';
import { encodeClosePayload, encodeFrame, FrameParser, OPCODES } from '../protocol/frames.ts';
import type { LegHandle, NativePlane } from './native-plane.ts';
import { LISTEN_EXCLUSIVE, uWS } from './uws.ts';

const LOOPBACK = '127.0.0.1';
const TIMEOUT_MS = 5_000;
const HANDSHAKE = [
  'GET / HTTP/1.1',
  'Host: localhost',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: c2VsZiB0ZXN0IG9mIHRoZQ==',
  '\r\n',
].join('\r\n');
const MASK = 0x5a3c_96e1;
const GREETING = 'the quick brown fox';
const CLOSE_CODE = 1000;

/**
 * Whether the plane really relays on this machine: two sockets of a throwaway server on loopback are spliced, a frame
 * and a Close go each way, and all ends. Takes a few milliseconds.
 *
 * @returns undefined when all is well, else what failed. Never rejects, and leaves nothing behind.
 */
export async function selfTest(
  plane: NativePlane,
  clock: Clock = systemClock,
): Promise<string | undefined> {
  let cancelTimeout: CancelTimer | undefined;
  const timedOut = new Promise<string>(resolve => {
    cancelTimeout = clock.after(TIMEOUT_MS, () => resolve('it did not relay a frame in time'));
  });
  const server = startServer(plane);
  try {
    const fault = await Promise.race([relayBothWays(server), timedOut]);
    return fault === undefined ? undefined : `The native data plane cannot be used: ${fault}`;
  } finally {
    cancelTimeout?.();
    server.close();
  }
}

interface SelfTestServer {
  readonly port: Promise<number | undefined>;
  /** What went wrong on the server's side, or undefined once the splice has ended as it should. */
  readonly outcome: Promise<string | undefined>;
  close(): void;
}

/** Splices the first two WebSockets that come. */
function startServer(plane: NativePlane): SelfTestServer {
  const app = uWS.App();
  const legs: LegHandle[] = [];
  let listening: us_listen_socket | undefined;
  let settled: ((fault: string | undefined) => void) | undefined;
  const outcome = new Promise<string | undefined>(resolve => (settled = resolve));
  const settle = (fault: string | undefined): void => settled?.(fault);

  app.ws('/*', {
    idleTimeout: 0,
    upgrade(response, request, context) {
      if (plane.hook(context) === -1) settle('the handlers of uWebSockets.js were not found');
      const key = request.getHeader('sec-websocket-key');
      response.upgrade({}, key, '', '', context);
    },
    open(ws) {
      legs.push(plane.attach(ws, { frameBytesMax: 0, messageBytesMax: 0 }));
      const [a, b] = legs;
      if (a === undefined || b === undefined) return;
      const isSpliced = plane.splice(a, b, new Float64Array(4), end => {
        const isAsExpected = end.a.closeCode === CLOSE_CODE && end.b.closeCode === CLOSE_CODE;
        settle(isAsExpected ? undefined : `a pair ended wrongly: ${JSON.stringify(end)}`);
      });
      if (!isSpliced) settle('two sockets could not be joined');
    },
  });
  const port = new Promise<number | undefined>(resolve => {
    app.listen(LOOPBACK, 0, LISTEN_EXCLUSIVE, socket => {
      if (socket !== false) listening = socket;
      resolve(socket === false ? undefined : uWS.us_socket_local_port(socket));
    });
  });
  return {
    port,
    outcome,
    close() {
      if (listening !== undefined) uWS.us_listen_socket_close(listening);
      app.close();
    },
  };
}

async function relayBothWays(server: SelfTestServer): Promise<string | undefined> {
  const port = await server.port;
  if (port === undefined) return 'no port to test it on';
  const clients = [exchange(port), exchange(port)];
  const [fault, ...greetings] = await Promise.all([server.outcome, ...clients]);
  if (fault !== undefined) return fault;
  return greetings.every(text => text === GREETING) ? undefined : 'a frame came out changed';
}

/** Sends a frame, and Close once the other's frame has come. Resolves with that frame's text, or with what failed. */
async function exchange(port: number): Promise<string> {
  return new Promise(resolve => {
    const socket = connect(port, LOOPBACK, () => socket.write(HANDSHAKE));
    const parser = new FrameParser();
    let head = '';
    let greeting = 'nothing';
    const send = (opcode: number, payload: Uint8Array): boolean =>
      socket.write(encodeFrame({ opcode, payload, mask: MASK }));

    socket.on('data', bytes => {
      let rest: Uint8Array = bytes;
      if (!head.endsWith('\r\n\r\n')) {
        const text = bytes.toString('latin1');
        const end = text.indexOf('\r\n\r\n') + 4;
        head += end < 4 ? text : text.slice(0, end);
        if (end < 4) return;
        send(OPCODES.text, new TextEncoder().encode(GREETING));
        rest = bytes.subarray(end);
      }
      for (const frame of parser.push(rest)) {
        if (frame.opcode !== OPCODES.text) continue;
        greeting = new TextDecoder().decode(frame.payload);
        send(OPCODES.close, encodeClosePayload(CLOSE_CODE));
      }
    });
    socket.on('error', error => (greeting = String(error)));
    socket.on('close', () => resolve(greeting));
  });
}
