/** Where a TCP or Unix socket is, or is to be. */
export type SocketAddress =
  | { readonly host: string; readonly port: number }
  | { readonly path: string };

const PORT_MAX = 65_535;
/** Of `sun_path` on Linux, less the byte that ends it; longer ones would be cut without a word. */
const UNIX_PATH_BYTES_MAX = 107;

/**
 * Reads `port` (on 127.0.0.1), `host:port`, `[ipv6]:port` or `unix:/path`. Undefined when it is none of
 * these. An empty host is none: whether it means all interfaces or this machine alone, nobody knows.
 */
export function parseSocketAddress(text: string): SocketAddress | undefined {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    const isGood = path !== '' && Buffer.byteLength(path) <= UNIX_PATH_BYTES_MAX;
    return isGood ? { path } : undefined;
  }
  const match = /^(?:(\[[0-9a-f:.]+\]|[^\s:/[\]]+):)?(\d{1,5})$/i.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port > PORT_MAX) return undefined;
  return { host: (match[1] ?? '127.0.0.1').replaceAll(/[[\]]/g, ''), port };
}

export function formatSocketAddress(address: SocketAddress): string {
  if ('path' in address) return `unix:${address.path}`;
  const { host, port } = address;
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}
