import { startProcess, typescriptProgram } from '../support/process.ts';
import { portOf } from './port.ts';

/** A relay of the same shape as ours over socket.io's polling transport. */
export interface SocketIoRelay extends AsyncDisposable {
  readonly pid: number;
  readonly url: string;
}

export async function startSocketIoRelay(): Promise<SocketIoRelay> {
  const server = await startProcess({
    name: 'socket-io-relay',
    command: typescriptProgram('servers/socket-io-relay.ts'),
    core: 'server',
    ready: portOf,
  });
  return {
    pid: server.pid,
    url: `http://127.0.0.1:${server.found}`,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
