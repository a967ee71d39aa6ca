import ipaddr from 'ipaddr.js';
import type { HttpResponse } from 'uWebSockets.js';
import type { RemoteEndpoint } from '../protocol/control-messages.ts';
import type { HeaderPairs } from '../protocol/relayed-headers.ts';
import { header } from './request-snapshot.ts';

export type AddressRange = ReturnType<typeof ipaddr.parseCIDR>;

/** Whom a request came from, and how: what rendezvous addresses for that peer must look like. */
export interface Peer {
  readonly remote: RemoteEndpoint;
  readonly isSecure: boolean;
}

export interface PeerSources {
  /** Ranges whose `X-Forwarded-*` headers are believed. */
  readonly trustedProxies: readonly AddressRange[];
  /** Port of the peer's socket, where something below can tell; uWebSockets.js cannot. */
  readonly remotePort: (response: HttpResponse) => number;
  /** Whom our own TLS terminator speaks for; undefined when the bytes are none of its keys. */
  readonly terminated: (proxied: ArrayBuffer) => RemoteEndpoint | undefined;
}

/** Tells who is at the other end of a request, through our TLS terminator and trusted proxies. */
export function peerOf(response: HttpResponse, headers: HeaderPairs, sources: PeerSources): Peer {
  const socketAddress = response.getRemoteAddress();
  // Only Unix sockets have no address, and only our terminator connects to ours.
  const terminated =
    socketAddress.byteLength === 0
      ? sources.terminated(response.getProxiedRemoteAddress())
      : undefined;
  const remote = terminated ?? {
    address: addressText(socketAddress),
    port: sources.remotePort(response),
  };
  const isSecure = terminated !== undefined;
  if (sources.trustedProxies.length === 0 || !isTrusted(remote.address, sources.trustedProxies)) {
    return { remote, isSecure };
  }
  return {
    remote:
      saidByProxyProtocol(response, socketAddress, sources.trustedProxies) ??
      forwardedFor(headers, sources.trustedProxies) ??
      remote,
    isSecure: isSecure || header(headers, 'x-forwarded-proto')?.toLowerCase() === 'https',
  };
}

/**
 * The client that a trusted proxy names in its PROXY v2 header. Not for what comes through our own
 * terminator: its headers are keys, and a TLS client may send one of its own behind them.
 */
function saidByProxyProtocol(
  response: HttpResponse,
  socketAddress: ArrayBuffer,
  trusted: readonly AddressRange[],
): RemoteEndpoint | undefined {
  if (socketAddress.byteLength === 0) return undefined;
  const address = addressText(response.getProxiedRemoteAddress());
  return address === '' || isTrusted(address, trusted) ? undefined : { address, port: 0 };
}

/** The last address that is no trusted proxy: what stands before it could be anybody's invention. */
function forwardedFor(
  headers: HeaderPairs,
  trusted: readonly AddressRange[],
): RemoteEndpoint | undefined {
  const hops = headers
    .filter(([name]) => name === 'x-forwarded-for')
    .flatMap(([, value]) => value.split(','))
    .map(hop => hop.trim());
  const client = hops.findLast(hop => !isTrusted(hop, trusted));
  return client !== undefined && ipaddr.isValid(client) ? { address: client, port: 0 } : undefined;
}

function isTrusted(address: string, trusted: readonly AddressRange[]): boolean {
  if (!ipaddr.isValid(address)) return false;
  const parsed = ipaddr.process(address);
  return trusted.some(
    ([range, bits]) => parsed.kind() === range.kind() && parsed.match([range, bits]),
  );
}

function addressText(bytes: ArrayBuffer): string {
  if (bytes.byteLength !== 4 && bytes.byteLength !== 16) return '';
  const octets = new Uint8Array(bytes);
  if (octets.length === 4) return octets.join('.');
  return ipaddr.process(ipaddr.fromByteArray([...octets]).toString()).toString();
}
