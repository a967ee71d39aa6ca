/** The parts of Microsoft's package that tests use. It builds on version 1 of `ws`. */
declare module 'hyco-ws' {
  import type { EventEmitter } from 'node:events';

  namespace HycoWs {
    interface Socket extends EventEmitter {
      readonly protocol: string | undefined;
      readonly readyState: number;
      send(data: string | Uint8Array, callback?: (error?: Error) => void): void;
      ping(data?: string): void;
      close(code?: number, reason?: string): void;
      terminate(): void;
    }

    interface RelayedServer extends EventEmitter {
      closeRequested: boolean;
      readonly controlChannel: Socket;
      readonly clients: readonly Socket[];
      close(callback?: (error: unknown) => void): void;
    }

    interface Package {
      new (
        address: string,
        protocols?: string | readonly string[] | null,
        options?: { headers?: Record<string, string>; perMessageDeflate?: boolean } | null,
      ): Socket;
      createRelayedServer(
        options: {
          server: string;
          token: string | (() => string);
          handleProtocols?: (
            protocols: readonly string[],
            done: (isAccepted: boolean, protocol?: string) => void,
          ) => void;
        },
        onConnection?: (socket: Socket) => void,
      ): RelayedServer;
      relayedConnect(
        address: string,
        token: string | null,
        onOpen?: (socket: Socket) => void,
      ): Socket;
      createRelayToken(uri: string, keyName: string, key: string, expirationSec?: number): string;
      createRelaySendUri(host: string, path: string, token?: string, id?: string): string;
      createRelayListenUri(host: string, path: string, token?: string, id?: string): string;
    }
  }

  const WebSocket: HycoWs.Package;
  export = WebSocket;
}
