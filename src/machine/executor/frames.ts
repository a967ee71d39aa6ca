import type { Socket } from 'node:net';

// What passes between service and executor: 4 bytes length (big-endian, of what follows), 1 byte kind, body.
// Secrets have a kind of their own, so that they are never part of a string, which cannot be wiped.

const HEADER_BYTES = 4;
/** More than the largest inputs need in JSON. */
const FRAME_BYTES_MAX = 16 * 1024 * 1024;
const JSON_KIND = 1;
const SECRETS_KIND = 2;

export type Frame =
  | { readonly type: 'json'; readonly value: unknown }
  | { readonly type: 'secrets'; readonly secrets: Secrets };

/** By name; whoever takes them wipes them. */
export type Secrets = Readonly<Record<string, Buffer>>;

export function wipeSecrets(secrets: Secrets): void {
  for (const secret of Object.values(secrets)) secret.fill(0);
}

export function writeJson(socket: Socket, value: object): void {
  if (socket.writable) socket.write(frameOf(JSON_KIND, Buffer.from(JSON.stringify(value))));
}

/** Resolves when the bytes were handed to the system and wiped here. */
export function writeSecrets(socket: Socket, secrets: Secrets): Promise<void> {
  const parts = Object.entries(secrets).flatMap(([name, secret]) => [
    sized(Buffer.from(name)),
    sized(secret),
  ]);
  const body = Buffer.concat(parts);
  const frame = frameOf(SECRETS_KIND, body);
  for (const bytes of [...parts, body]) bytes.fill(0);
  return new Promise(resolve => {
    socket.write(frame, () => {
      frame.fill(0);
      resolve();
    });
  });
}

/** Calls `take` for each frame; ends the socket when what comes is none. */
export function readFrames(socket: Socket, take: (frame: Frame) => void): void {
  let held = Buffer.alloc(0);
  socket.on('data', chunk => {
    held = held.length === 0 ? Buffer.from(chunk) : Buffer.concat([held, chunk]);
    while (held.length >= HEADER_BYTES) {
      const length = held.readUInt32BE(0);
      if (length === 0 || length > FRAME_BYTES_MAX) {
        socket.destroy();
        return;
      }
      const end = HEADER_BYTES + length;
      if (held.length < end) return;
      const frame = parseFrame(held.subarray(HEADER_BYTES, end));
      held.fill(0, 0, end);
      held = held.subarray(end);
      if (frame === undefined) {
        socket.destroy();
        return;
      }
      take(frame);
    }
  });
}

function frameOf(kind: number, body: Buffer): Buffer {
  const frame = Buffer.alloc(HEADER_BYTES + 1 + body.length);
  frame.writeUInt32BE(1 + body.length, 0);
  frame.writeUInt8(kind, HEADER_BYTES);
  body.copy(frame, HEADER_BYTES + 1);
  return frame;
}

function sized(bytes: Buffer): Buffer {
  const out = Buffer.alloc(HEADER_BYTES + bytes.length);
  out.writeUInt32BE(bytes.length, 0);
  bytes.copy(out, HEADER_BYTES);
  return out;
}

function parseFrame(bytes: Buffer): Frame | undefined {
  const body = bytes.subarray(1);
  if (bytes[0] === SECRETS_KIND) return parseSecrets(body);
  if (bytes[0] !== JSON_KIND) return undefined;
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    return { type: 'json', value };
  } catch {
    return undefined;
  }
}

function parseSecrets(body: Buffer): Frame | undefined {
  const parts: Buffer[] = [];
  let at = 0;
  while (at + HEADER_BYTES <= body.length) {
    const end = at + HEADER_BYTES + body.readUInt32BE(at);
    if (end > body.length) return undefined;
    // Copied, because the frame is wiped.
    parts.push(Buffer.from(body.subarray(at + HEADER_BYTES, end)));
    at = end;
  }
  if (at !== body.length || parts.length % 2 !== 0) return undefined;
  const secrets: Record<string, Buffer> = {};
  for (let index = 0; index < parts.length; index += 2) {
    const [name, secret] = parts.slice(index, index + 2);
    if (name !== undefined && secret !== undefined) secrets[name.toString('utf8')] = secret;
  }
  return { type: 'secrets', secrets };
}
