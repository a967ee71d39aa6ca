import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import { hasCode, MachineError, textOf } from './machine-error.ts';
import type { StateFolder } from './state-folder.ts';

// Commands on this computer speak with the running service by a Unix socket in its state folder: one line there, one
// line back, both JSON. Whoever may enter the folder may ask. Nothing secret is asked for or told.

const SOCKET_NAME = 'service.sock';
const PATH_BYTES_MAX = 107;
const LINE_CHARS_MAX = 1024 * 1024;
const ANSWER_TIMEOUT_MS = 5_000;

export type ServiceQuestion = 'status' | 'reload';

export interface ServiceSocket {
  close(): Promise<void>;
}

/** Takes the socket; that this succeeds says that no other process of the service uses the folder. */
export async function openServiceSocket(
  folder: StateFolder,
  answer: (question: ServiceQuestion) => Promise<object>,
): Promise<ServiceSocket> {
  const path = pathIn(folder);
  const server = createServer({ allowHalfOpen: false }, socket => converse(socket, answer));
  if (!(await isTaken(server, path))) return closing(server);
  if (await isAnswering(path)) {
    throw new MachineError(
      'Busy',
      `Another process of the machine service uses "${folder.path}": stop it first, or name another folder with --state`,
    );
  }
  // Left behind by a process that was killed.
  rmSync(path, { force: true });
  if (!(await isTaken(server, path))) return closing(server);
  throw new MachineError('Busy', `Another process of the machine service has just taken "${path}"`);
}

/** Asks the running service; undefined when none runs. Rejects with a `MachineError` when it does not answer. */
export function askService(
  folder: StateFolder,
  question: ServiceQuestion,
  clock: Clock,
): Promise<unknown> {
  const path = pathIn(folder);
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const fail = (why: string): void => {
      cancel();
      socket.destroy();
      reject(new MachineError('Busy', `The machine service does not answer at "${path}": ${why}`));
    };
    const cancel = clock.after(ANSWER_TIMEOUT_MS, () =>
      fail(`nothing within ${ANSWER_TIMEOUT_MS / 1_000} s`),
    );
    let text = '';
    socket.setEncoding('utf8');
    socket.once('connect', () => socket.write(`${JSON.stringify({ ask: question })}\n`));
    socket.on('data', (chunk: string) => {
      text = (text + chunk).slice(0, LINE_CHARS_MAX);
    });
    socket.once('end', () => {
      cancel();
      try {
        resolve(JSON.parse(text));
      } catch {
        fail('its answer cannot be read');
      }
    });
    socket.once('error', error => {
      cancel();
      // No socket, or nobody behind it.
      if (hasCode(error, 'ENOENT') || hasCode(error, 'ECONNREFUSED')) resolve(undefined);
      else fail(textOf(error));
    });
  });
}

function pathIn(folder: StateFolder): string {
  const path = folder.pathOf(SOCKET_NAME);
  if (Buffer.byteLength(path) <= PATH_BYTES_MAX) return path;
  throw new MachineError(
    'State',
    `The path of the state folder is too long for a Unix socket ("${path}"): name a shorter one with --state`,
  );
}

function converse(socket: Socket, answer: (question: ServiceQuestion) => Promise<object>): void {
  let text = '';
  socket.setEncoding('utf8');
  // Whoever asked has gone; nothing is lost by that.
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: string) => {
    if (text.includes('\n')) return;
    text = (text + chunk).slice(0, LINE_CHARS_MAX);
    if (!text.includes('\n')) return;
    const question = questionIn(text);
    if (question === undefined) {
      socket.end(`${JSON.stringify({ error: 'unsupported' })}\n`);
      return;
    }
    answer(question).then(
      told => socket.end(`${JSON.stringify(told)}\n`),
      (error: unknown) => socket.end(`${JSON.stringify({ error: textOf(error) })}\n`),
    );
  });
}

function questionIn(line: string): ServiceQuestion | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== 'object' || value === null || !('ask' in value)) return undefined;
    return value.ask === 'status' || value.ask === 'reload' ? value.ask : undefined;
  } catch {
    // Not one of our commands.
    return undefined;
  }
}

/** False: it listens now. */
function isTaken(server: Server, path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error): void => {
      if (hasCode(error, 'EADDRINUSE')) resolve(true);
      else reject(new MachineError('State', `Cannot open "${path}": ${textOf(error)}`));
    };
    server.once('error', onError);
    server.listen(path, () => {
      server.off('error', onError);
      chmodSync(path, 0o600);
      resolve(false);
    });
  });
}

function isAnswering(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function closing(server: Server): ServiceSocket {
  return {
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve());
      }),
  };
}
