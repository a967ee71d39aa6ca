import { randomBytes } from 'node:crypto';
import type { RemoteEndpoint } from '../protocol/control-messages.ts';

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
const VERSION_2_PROXY = 0x21;
const TCP_OVER_IPV6 = 0x21;
/** Source and destination address, source and destination port. */
const ADDRESS_BYTES = 16 + 16 + 2 + 2;
const HEADER_BYTES = SIGNATURE.length + 4 + ADDRESS_BYTES;

/**
 * Endpoints of TLS peers, each known to uWebSockets.js under a made-up IPv6 address.
 *
 * uWebSockets.js tells of a PROXY v2 header only the source address, not the port, and it takes
 * such a header from the peer too, at any time: a TLS client may send one of its own behind ours.
 * So the address in our header is a key of 64 random bits per process and a 64-bit counter. A
 * client cannot know it, a forged header finds no entry, and the entry carries the port. That an
 * entry is found also says that the connection came over TLS.
 *
 * The map is bounded by the terminator's limit on connections: one entry each, until it closes.
 */
export class ProxiedEndpoints {
  readonly #prefix = randomBytes(8);
  readonly #byKey = new Map<string, RemoteEndpoint>();
  #counter = 0n;

  get size(): number {
    return this.#byKey.size;
  }

  /** The PROXY v2 header to write before anything else, and the key to forget when the connection closes. */
  add(endpoint: RemoteEndpoint): { readonly key: string; readonly header: Buffer } {
    this.#counter += 1n;
    const header = Buffer.alloc(HEADER_BYTES);
    let at = SIGNATURE.copy(header);
    at = header.writeUInt8(VERSION_2_PROXY, at);
    at = header.writeUInt8(TCP_OVER_IPV6, at);
    at = header.writeUInt16BE(ADDRESS_BYTES, at);
    const source = at;
    at += this.#prefix.copy(header, at);
    at = header.writeBigUInt64BE(this.#counter, at);
    // The destination address and both ports stay zero: nobody reads them.
    const key = header.toString('hex', source, at);
    this.#byKey.set(key, endpoint);
    return { key, header };
  }

  forget(key: string): void {
    this.#byKey.delete(key);
  }

  /** Takes what `getProxiedRemoteAddress()` gave: 16 bytes of ours, or anything a stranger sent. */
  lookup(proxied: ArrayBuffer): RemoteEndpoint | undefined {
    return this.#byKey.get(Buffer.from(proxied).toString('hex'));
  }
}
