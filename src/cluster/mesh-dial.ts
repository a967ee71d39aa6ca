import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Clock } from '../base/clock.ts';
import { SOCKET_OPTIONS } from './mesh-door.ts';
import type { MeshKeys } from './mesh-credentials.ts';
import { localPath } from './mesh-local.ts';
import type { HandshakeEnd } from './record-socket.ts';

/** `host:port` in its parts, an IPv6 address without its brackets; undefined when it is no address. */
export function parseMeshAddress(
  address: string,
): { readonly host: string; readonly port: number } | undefined {
  const [, bracketed, plain, digits] =
    /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(address) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  return host === undefined || port < 1 || port > 65_535 ? undefined : { host, port };
}

export type Dialled =
  | {
      readonly socket: Socket;
      /** Why the socket broke, once it has. */ readonly fault: () => HandshakeEnd;
    }
  | { readonly ended: HandshakeEnd };

interface DialOptions {
  readonly clock: Clock;
  readonly keys: MeshKeys;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** Connects to another node's mesh port, TLS included. Never rejects. */
export function dialMesh(address: string, options: DialOptions): Promise<Dialled> {
  const { keys, signal } = options;
  const target = parseMeshAddress(address);
  if (target === undefined) {
    return Promise.resolve({
      ended: { reason: 'unreachable', by: 'us', detail: `"${address}" is not host:port` },
    });
  }
  if (signal?.aborted === true) return Promise.resolve({ ended: ABORTED });
  const { tls } = keys;
  if (tls === undefined) {
    return connected(connectTcp({ ...target, ...SOCKET_OPTIONS }), 'connect', options);
  }
  // The authority is the mesh's own, so its word is enough: addresses need not be in certificates.
  const checks = { checkServerIdentity: () => undefined };
  const socket = connectTls({ ...target, ...SOCKET_OPTIONS, ...tls, ...checks });
  return connected(socket, 'secureConnect', options);
}

/** Connects to another node's Unix socket, without TLS. Refused at once when it is not of this machine. Never rejects. */
export function dialLocal(name: string, options: DialOptions): Promise<Dialled> {
  const { allowHalfOpen } = SOCKET_OPTIONS;
  return connected(connectTcp({ path: localPath(name), allowHalfOpen }), 'connect', options);
}

function connected(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  { clock, timeoutMs, signal }: DialOptions,
): Promise<Dialled> {
  let fault: HandshakeEnd = { reason: 'closed', by: 'peer' };
  socket.on('error', error => {
    fault = faultOf(error);
    socket.destroy();
  });
  return new Promise(resolve => {
    const settle = (outcome: Dialled): void => {
      cancel();
      signal?.removeEventListener('abort', abort);
      socket.off('close', onClose);
      resolve(outcome);
    };
    const give = (end: HandshakeEnd): void => {
      socket.destroy();
      settle({ ended: end });
    };
    const abort = (): void => give(ABORTED);
    const onClose = (): void => give(fault);
    const cancel = clock.after(timeoutMs, () =>
      give({ reason: 'unreachable', by: 'us', detail: `no connection in ${timeoutMs} ms` }),
    );
    signal?.addEventListener('abort', abort);
    socket.once('close', onClose);
    socket.once(event, () => {
      // TLS sockets do not take this from their options.
      socket.setNoDelay(true);
      socket.setKeepAlive(true, SOCKET_OPTIONS.keepAliveInitialDelay);
      settle({ socket, fault: () => fault });
    });
  });
}

const ABORTED: HandshakeEnd = { reason: 'closed', by: 'us' };

/** Errors of TLS have codes of their own, those of the network are the system's (`ECONNREFUSED`). */
function faultOf(error: Error): HandshakeEnd {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const isOfNetwork = /^E[A-Z]+$/.test(code) && code !== 'EPROTO';
  const isReset = code === 'ECONNRESET' || code === 'EPIPE';
  return {
    reason: isReset ? 'closed' : isOfNetwork ? 'unreachable' : 'tls',
    by: isReset ? 'peer' : 'us',
    detail: error.message,
  };
}
