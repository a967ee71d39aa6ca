import type { HeaderPairs } from '../protocol/relayed-headers.ts';
import { hostNameOf } from '../relay/namespaces.ts';
import { header } from './request-snapshot.ts';

// A page that a listener serves is a stranger's. Where it has the portal's origin, the browser lets it read and change
// what the portal keeps; where the portal has a host of its own, it does not.

export interface PortalGuard {
  /**
   * Hosts of the portal, in lower case, without port and final dot: nothing is relayed there, and the portal is nowhere
   * else. Empty: it is at every host.
   */
  readonly hosts: readonly string[];
}

export type PortalFault = 'portal-host' | 'service-worker';

/** Whether a `Host` header names one of these hosts, however it is spelled. No header of a proxy is asked. */
export function isHostOf(hosts: readonly string[], sentHost: string): boolean {
  return hosts.length > 0 && hosts.includes(hostNameOf(sentHost).replace(/\.$/, ''));
}

/** Why a request must not reach a listener for the portal's sake. */
export function portalFault(
  guard: PortalGuard | undefined,
  headers: HeaderPairs,
): PortalFault | undefined {
  if (guard === undefined) return undefined;
  if (guard.hosts.length > 0) {
    return isHostOf(guard.hosts, header(headers, 'host') ?? '') ? 'portal-host' : undefined;
  }
  // Browsers send it with the script of a service worker, first and at each update, and no page can leave it out.
  return header(headers, 'service-worker') === undefined ? undefined : 'service-worker';
}
