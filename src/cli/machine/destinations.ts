import { lookup } from 'node:dns/promises';
import { BlockList, connect, isIP, isIPv6 } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import { ControlError, type ControlClient } from '../../machine/control-client.ts';
import { textOf } from '../../machine/machine-error.ts';
import { fieldAt, textAt } from '../admin-client.ts';

/** What the server says must be reachable from machines: `GET /endpoints`. Source: job-dispatch.md row A6. */
export interface PublishedEndpoints {
  readonly host: string;
  readonly ports: readonly number[];
  /** Addresses and ranges, `10.0.0.0/8`; none: whatever the host's name has. */
  readonly addresses: readonly string[];
}

export interface Destination {
  /** `host:port`, or a range that nothing was tried of. */
  readonly destination: string;
  readonly state: 'Open' | 'Closed' | 'Not tried';
  readonly why?: string;
}

const CONNECT_TIMEOUT_MS = 5_000;

/** Undefined when the server cannot be asked, or says nothing that can be tried. */
export async function publishedEndpoints(
  client: ControlClient,
): Promise<PublishedEndpoints | undefined> {
  let body: unknown;
  try {
    ({ body } = await client.call({ method: 'GET', path: '/endpoints' }));
  } catch (error) {
    if (error instanceof ControlError) return undefined;
    throw error;
  }
  const host = textAt(body, 'host').replaceAll(/^\[|\]$/g, '');
  const [ports, addresses] = [fieldAt(body, 'ports'), fieldAt(body, 'addresses')];
  if (host === '' || !Array.isArray(ports)) return undefined;
  const texts: readonly unknown[] = Array.isArray(addresses) ? addresses : [];
  return {
    host,
    ports: ports.filter((port): port is number => typeof port === 'number'),
    addresses: texts.filter((text): text is string => typeof text === 'string' && isRange(text)),
  };
}

/** Addresses of the host's name that a firewall which follows the published list would not let through. */
export async function unpublishedAddresses({
  host,
  addresses,
}: PublishedEndpoints): Promise<readonly string[]> {
  if (addresses.length === 0) return [];
  const resolved = await addressesOf(host);
  return resolved.filter(one => !addresses.some(range => isWithin(one, range)));
}

/**
 * Tries exactly the published list, all at once: the host's name, and each address, at each port. Of a range those
 * addresses are tried that the name has; where it has none of them nothing can be.
 */
export async function tryDestinations(
  { host, ports, addresses }: PublishedEndpoints,
  clock: Clock,
): Promise<readonly Destination[]> {
  const resolved = addresses.length === 0 ? [] : await addressesOf(host);
  const tried = new Set([host]);
  const notTried: Destination[] = [];
  for (const range of addresses) {
    const [address = '', bits = ''] = range.split('/');
    const isOne = bits === '' || Number(bits) === (isIPv6(address) ? 128 : 32);
    const within = isOne ? [address] : resolved.filter(one => isWithin(one, range));
    for (const one of within) tried.add(one);
    if (within.length > 0) continue;
    const why = `a range that ${host} has no address of`;
    notTried.push({ destination: range, state: 'Not tried', why });
  }
  const places = [...tried].flatMap(one => ports.map(port => ({ host: one, port })));
  const found = await Promise.all(
    places.map(async (place): Promise<Destination> => {
      const why = await obstacleTo(place, clock);
      const destination = `${place.host.includes(':') ? `[${place.host}]` : place.host}:${place.port}`;
      if (why === undefined) return { destination, state: 'Open' };
      return { destination, state: 'Closed', why };
    }),
  );
  return [...found, ...notTried];
}

async function addressesOf(host: string): Promise<readonly string[]> {
  if (isIP(host) !== 0) return [host];
  // A name that has none shows by the destination that it is.
  const found = await lookup(host, { all: true }).catch(() => []);
  return found.map(({ address }) => address);
}

function isRange(text: string): boolean {
  const [address = '', bits, ...more] = text.split('/');
  const bitsMax = isIPv6(address) ? 128 : 32;
  const isBits = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= bitsMax);
  return isIP(address) !== 0 && isBits && more.length === 0;
}

function isWithin(address: string, range: string): boolean {
  const [net = '', bits] = range.split('/');
  const family = isIPv6(net) ? 'ipv6' : 'ipv4';
  const list = new BlockList();
  list.addSubnet(net, bits === undefined ? (family === 'ipv6' ? 128 : 32) : Number(bits), family);
  return list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

function obstacleTo(
  place: { readonly host: string; readonly port: number },
  clock: Clock,
): Promise<string | undefined> {
  return new Promise(resolve => {
    const socket = connect(place);
    const done = (why: string | undefined): void => {
      cancel();
      socket.destroy();
      resolve(why);
    };
    const cancel = clock.after(CONNECT_TIMEOUT_MS, () => done('no answer: a firewall may drop it'));
    socket.once('connect', () => done(undefined));
    socket.once('error', error => done(textOf(error)));
  });
}
