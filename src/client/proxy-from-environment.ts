import { getProxyForUrl } from 'proxy-from-env';

/**
 * What HTTPS_PROXY (for TLS), HTTP_PROXY (without), ALL_PROXY and NO_PROXY, in either case, say for a
 * URL; `ws:` and `wss:` are `http:` and `https:` to them. Undefined: no proxy.
 */
export function proxyFromEnvironment(url: URL): string | undefined {
  // The package has variables of its own for ws: and wss:, which nobody sets.
  const asHttp = new URL(url.href.replace(/^ws/i, 'http'));
  const proxy = getProxyForUrl(asHttp.href);
  if (proxy === '') return undefined;
  // Where a value has no scheme the package gives it that of the URL. Proxies speak HTTP, whatever passes through them.
  const bare = proxy.slice(proxy.indexOf('://') + 3);
  const isBare = VARIABLES.some(name => process.env[name] === bare);
  return isBare ? `http://${bare}` : proxy;
}

const VARIABLES = ['https_proxy', 'http_proxy', 'all_proxy'].flatMap(name => [
  name,
  name.toUpperCase(),
]);
