import type { EventEmitter } from 'node:events';
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';

// As much of Microsoft's packages as the tests use; they bring no types.

export interface HycoSocket extends EventEmitter {
  send(data: string | Uint8Array): void;
  close(): void;
}

export interface HycoWs {
  createRelayedServer(
    options: { readonly server: string; readonly token: string },
    onSocket: (socket: HycoSocket) => void,
  ): EventEmitter & { close(): void };
  relayedConnect(address: string, token: string): HycoSocket;
}

export interface HycoResponse {
  writeHead(status: number, phrase: string, headers: OutgoingHttpHeaders): void;
  write(data: string | Uint8Array): void;
  end(data?: string | Uint8Array): void;
}

export interface HycoHttps {
  createRelayedServer(
    options: { readonly server: string; readonly token: string },
    onRequest: (request: IncomingMessage, response: HycoResponse) => void,
  ): EventEmitter & { listen(): void; close(): void };
}
