import { lookup } from 'node:dns/promises';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import type { Clock } from './base/clock.ts';
import type {
  CallbackAnswer,
  CallbackRequest,
  CallbackSender,
} from './dispatch/callback-sender.ts';

export interface ResolvedAddress {
  readonly address: string;
  readonly family: number;
}

export interface HttpsCallbacksOptions {
  readonly clock: Clock;
  /** All addresses of a name; rejects when it has none. Default: the system's. */
  readonly resolve?: (hostname: string) => Promise<readonly ResolvedAddress[]>;
  /** Default: `isPublicAddress`. */
  readonly isAllowed?: (address: string) => boolean;
  /** Authorities to trust instead of the system's, PEM. */
  readonly ca?: string;
}

/**
 * Makes callbacks over HTTPS. The name is resolved for each call, every address it leads to must be public,
 * and the connection goes to one of the very addresses that were checked: a name that changes in between (DNS
 * rebinding) changes nothing. Redirects are answers like others, bodies of answers are not read.
 */
export function httpsCallbacks(options: HttpsCallbacksOptions): CallbackSender {
  const { resolve = resolveAll, isAllowed = isPublicAddress } = options;
  return {
    async send(request) {
      const url = new URL(request.url);
      if (url.protocol !== 'https:') return fault('address-refused');
      const hostname = url.hostname.replaceAll(/[[\]]/g, '');
      let addresses: readonly ResolvedAddress[];
      try {
        addresses = await addressesOf(hostname, resolve);
      } catch {
        // The resolver's own errors all mean that there is no address now.
        return fault('name-unknown');
      }
      // One bad one among good ones is how a guard is tried: the name is not to be trusted.
      const isGood = addresses.length > 0 && addresses.every(({ address }) => isAllowed(address));
      return isGood ? post(url, request, addresses, options) : fault('address-refused');
    },
  };
}

const GIVEN_OUT = ipaddr.IPv6.parse('2000::');

/** Whether an address is of the public Internet. IPv4 in any IPv6 clothing counts as what it stands for, or is refused. */
export function isPublicAddress(text: string): boolean {
  if (isIP(text) === 0) return false;
  const address = ipaddr.process(text.replace(/%.*$/s, ''));
  // Loopback, private, link-local, multicast, unique local, carrier NAT, 6to4, Teredo, NAT64, documentation:
  // all of them are ranges of another name.
  if (address.range() !== 'unicast') return false;
  // Of IPv6 one eighth is given out (2000::/3). IPv4 also hides in what is not, as in ::7f00:1.
  return !(address instanceof ipaddr.IPv6) || address.match(GIVEN_OUT, 3);
}

async function addressesOf(
  hostname: string,
  resolve: (hostname: string) => Promise<readonly ResolvedAddress[]>,
): Promise<readonly ResolvedAddress[]> {
  const family = isIP(hostname);
  return family === 0 ? resolve(hostname) : [{ address: hostname, family }];
}

function resolveAll(hostname: string): Promise<readonly ResolvedAddress[]> {
  return lookup(hostname, { all: true });
}

function post(
  url: URL,
  { headers, body, timeoutMs }: CallbackRequest,
  addresses: readonly ResolvedAddress[],
  { clock, ca }: HttpsCallbacksOptions,
): Promise<CallbackAnswer> {
  return new Promise(resolve => {
    const request = httpsRequest(url, {
      method: 'POST',
      headers: { ...headers, 'content-length': Buffer.byteLength(body), 'user-agent': 'Halfway' },
      // A connection of its own: one that was kept would go to an address that was checked some time ago.
      agent: false,
      lookup: pinnedTo(addresses),
      ...(ca === undefined ? {} : { ca }),
    });
    const end = (answer: CallbackAnswer): void => {
      cancel();
      resolve(answer);
      request.destroy();
    };
    const cancel = clock.after(timeoutMs, () => end(fault('timeout')));
    request.on('response', ({ statusCode = 0 }) => end({ type: 'answer', status: statusCode }));
    request.on('error', () => end(fault('unreachable')));
    request.end(body);
  });
}

/** Whatever is asked, the answer is what was checked. */
function pinnedTo(addresses: readonly ResolvedAddress[]): NonNullable<RequestOptions['lookup']> {
  return (_hostname, options, callback) => {
    const [first] = addresses;
    if (options.all === true) callback(null, [...addresses]);
    else callback(null, first?.address ?? '', first?.family ?? 0);
  };
}

function fault(why: Extract<CallbackAnswer, { type: 'fault' }>['why']): CallbackAnswer {
  return { type: 'fault', why };
}
