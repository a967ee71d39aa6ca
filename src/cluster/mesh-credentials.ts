import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket, type SecureContextOptions } from 'node:tls';

/** Fewer characters could be guessed by somebody who recorded a handshake. */
export const MESH_SECRET_CHARACTERS_MIN = 32;

/**
 * What makes a node a member: a secret that all share, certificates, or both. Certificates come from an
 * authority of the mesh's own (`ca`), for whoever holds one of its certificates is a member, under any
 * node id. All three are PEM.
 */
export interface MeshCredentials {
  readonly secret?: string;
  readonly certificates?: {
    readonly cert: string;
    readonly key: string;
    readonly ca: string;
  };
}

const MAC_KEY_LABEL = 'EXPORTER-halfway-mesh';
const MAC_KEY_BYTES = 32;
const MIN_TLS_VERSION = 'TLSv1.3';

/**
 * Says what members know, without ever showing it: proofs for handshakes and streams. On TLS a proof is
 * good for that one connection only, so that nobody in the middle can pass it on.
 *
 * Throws when there is neither a secret nor a certificate, or the secret is too short.
 */
export class MeshKeys {
  readonly #secret: string;
  readonly #certificates: MeshCredentials['certificates'];

  constructor(credentials: MeshCredentials) {
    const { secret, certificates } = credentials;
    if (secret === undefined && certificates === undefined) {
      throw new Error('Cannot start the mesh: give a shared secret or certificates');
    }
    if (secret !== undefined && secret.length < MESH_SECRET_CHARACTERS_MIN) {
      throw new Error(
        `Cannot start the mesh: the shared secret must have at least ${MESH_SECRET_CHARACTERS_MIN} characters, got ${secret.length}`,
      );
    }
    this.#secret = secret ?? '';
    this.#certificates = certificates;
  }

  /** For both ends of a TLS connection; undefined where connections are plain TCP. */
  get tls(): SecureContextOptions | undefined {
    if (this.#certificates === undefined) return undefined;
    return { ...this.#certificates, minVersion: MIN_TLS_VERSION };
  }

  /**
   * A MAC over `label` and the parts, each with its length, that only a member can make. 32 bytes. Undefined: for what
   * goes over no connection of its own.
   */
  proof(
    socket: Socket | undefined,
    label: string,
    ...parts: readonly (Uint8Array | string)[]
  ): Buffer {
    const mac = createHmac('sha256', this.#keyFor(socket));
    for (const part of [label, ...parts]) {
      const bytes = typeof part === 'string' ? Buffer.from(part) : part;
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      mac.update(length).update(bytes);
    }
    return mac.digest();
  }

  #keyFor(socket: Socket | undefined): Buffer | string {
    if (!(socket instanceof TLSSocket)) return this.#secret;
    const exported = socket.exportKeyingMaterial(MAC_KEY_BYTES, MAC_KEY_LABEL, Buffer.alloc(0));
    return createHmac('sha256', this.#secret).update(exported).digest();
  }
}

/** Whether two proofs are the same, in a time that does not tell where they differ. */
export function isSameProof(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
