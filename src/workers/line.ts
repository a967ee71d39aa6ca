import type { ChildProcess } from 'node:child_process';
import { Socket } from 'node:net';

/**
 * What carries messages between the parent and one worker: whole, in order, by structured clone. A line
 * of a process that ended stays down; only those of tests come up again.
 */
export interface Line {
  readonly isUp: boolean;
  /** False: the message was not taken, and never arrives. */
  send(message: object): boolean;
  onMessage(observer: (message: unknown) => void): void;
  onUpChange(observer: (isUp: boolean) => void): void;
}

/** The line between two processes of which one started the other. */
export interface ProcessLine extends Line {
  /** Gives a connection away: it is the other process's from then on. */
  sendConnection(connection: Socket): void;
  onConnection(observer: (connection: Socket) => void): void;
}

type Messenger = Pick<ChildProcess | NodeJS.Process, 'send' | 'connected'> & {
  on(event: 'message', react: (message: unknown, handle: unknown) => void): unknown;
  on(event: 'disconnect', react: () => void): unknown;
};

/** What comes along with a connection; anything else is a message. */
const CONNECTION = 'connection';

/** The line to a child that was forked with `serialization: 'advanced'`; or of such a child, to its parent. */
export function processLine(messenger: Messenger): ProcessLine {
  const messages: ((message: unknown) => void)[] = [];
  const connections: ((connection: Socket) => void)[] = [];
  messenger.on('message', (message, handle) => {
    if (message === CONNECTION) {
      // A connection that was reset on its way arrives without its handle.
      if (handle instanceof Socket) for (const observer of connections) observer(handle);
      return;
    }
    for (const observer of messages) observer(message);
  });
  return {
    get isUp() {
      return messenger.connected;
    },
    send: message => {
      if (!messenger.connected) return false;
      // What could not be written shows as the end of the line, which is observed.
      messenger.send?.(message, () => {});
      return true;
    },
    onMessage: observer => messages.push(observer),
    onUpChange: observer => void messenger.on('disconnect', () => observer(false)),
    sendConnection: connection => {
      if (!messenger.connected) {
        connection.destroy();
        return;
      }
      messenger.send?.(CONNECTION, connection, {}, error => {
        if (error !== null) connection.destroy();
      });
    },
    onConnection: observer => connections.push(observer),
  };
}
