import { randomBytes } from 'node:crypto';

// Nodes that share a machine and its network namespace reach each other over a Unix socket, which costs less than half
// of TCP on loopback. Its name is abstract: it leaves no file, cannot be seen from another namespace, and is gone with
// its process. Whether two nodes share a namespace is found out by trying.

const NAME = /^halfway-mesh-[0-9a-f]{32}$/;
const NAME_BYTES = 16;

/** A name that nobody else has. Told to members over their links; no secret, for who connects must prove itself. */
export function newLocalName(): string {
  return `halfway-mesh-${randomBytes(NAME_BYTES).toString('hex')}`;
}

/** Whether another node may say that it listens there: nothing else on this machine is ever connected to. */
export function isLocalName(value: unknown): value is string {
  return typeof value === 'string' && NAME.test(value);
}

/** The name as `net` wants it. */
export function localPath(name: string): string {
  return `\0${name}`;
}

/** Under which the same node takes connections of clients from others. */
export function handOverName(name: string): string {
  return `${name}-clients`;
}

/** Whether this system has such sockets. */
export const HAS_LOCAL_SOCKETS: boolean = process.platform === 'linux';
