import ipaddr from 'ipaddr.js';
import type { HttpResponse } from 'uWebSockets.js';
import { describe, expect, test } from 'vitest';
import type { RemoteEndpoint } from '../../src/protocol/control-messages.ts';
import type { HeaderPairs } from '../../src/protocol/relayed-headers.ts';
import { peerOf, type Peer, type PeerSources } from '../../src/transports/peers.ts';

const V4 = Uint8Array.of(192, 0, 2, 7);
const V4_IN_V6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7);
const V6 = Uint8Array.of(0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9);
const NONE = new Uint8Array(0);

/** The peer of a response whose socket address is `address`. */
function peer(
  address: Uint8Array,
  options: {
    readonly headers?: HeaderPairs;
    readonly trusted?: readonly string[];
    readonly proxied?: Uint8Array;
    readonly terminated?: PeerSources['terminated'];
  } = {},
): Peer {
  const response: Pick<HttpResponse, 'getRemoteAddress' | 'getProxiedRemoteAddress'> = {
    getRemoteAddress: () => new Uint8Array(address).buffer,
    getProxiedRemoteAddress: () => new Uint8Array(options.proxied ?? NONE).buffer,
  };
  return peerOf(fakeResponse(response), options.headers ?? [], {
    trustedProxies: (options.trusted ?? []).map(range => ipaddr.parseCIDR(range)),
    remotePort: () => 4_242,
    terminated: options.terminated ?? (() => undefined),
  });
}

/** Only addresses are asked for; anything else would throw. */
function fakeResponse(part: object): HttpResponse {
  return new Proxy<HttpResponse>(Object.create(part), {
    get(target, key) {
      if (!(key in part)) throw new Error(`Not expected: ${String(key)}`);
      return Reflect.get(target, key);
    },
  });
}

const FORWARDED: HeaderPairs = [
  ['x-forwarded-for', '198.51.100.1, 203.0.113.5'],
  ['x-forwarded-proto', 'https'],
];

/** What our TLS terminator knows of a client, and of a proxy in front of it. */
const stranger = (): RemoteEndpoint => ({ address: '198.51.100.9', port: 99 });
const proxy = (): RemoteEndpoint => ({ address: '192.0.2.7', port: 99 });

describe('peerOf()', () => {
  test.each([
    ['IPv4', V4, '192.0.2.7'],
    ['IPv4 on a dual-stack port', V4_IN_V6, '192.0.2.7'],
    ['IPv6', V6, '2001:db8::9'],
  ])('writes %s as people do, with the port of the socket', (_, address, text) => {
    expect(peer(address)).toEqual({ remote: { address: text, port: 4_242 }, isSecure: false });
  });

  test('believes no forwarded headers unless proxies are trusted', () => {
    expect(peer(V4, { headers: FORWARDED }).remote.address).toBe('192.0.2.7');
    expect(peer(V4, { headers: FORWARDED, trusted: ['10.0.0.0/8'] })).toEqual({
      remote: { address: '192.0.2.7', port: 4_242 },
      isSecure: false,
    });
  });

  test('takes the last address that is no trusted proxy: what stands before it may be invented', () => {
    expect(peer(V4, { headers: FORWARDED, trusted: ['192.0.2.0/24'] })).toEqual({
      remote: { address: '203.0.113.5', port: 0 },
      isSecure: true,
    });
    const trusted = ['192.0.2.0/24', '203.0.113.0/24'];
    expect(peer(V4, { headers: FORWARDED, trusted }).remote.address).toBe('198.51.100.1');
  });

  test('reads several lines as one list', () => {
    const headers: HeaderPairs = [
      ['x-forwarded-for', '198.51.100.1'],
      ['x-forwarded-for', '198.51.100.2,192.0.2.9'],
    ];
    expect(peer(V4, { headers, trusted: ['192.0.2.0/24'] }).remote.address).toBe('198.51.100.2');
  });

  test.each([
    ['nothing', []],
    ['only proxies', [['x-forwarded-for', '192.0.2.9, 192.0.2.8']]],
    ['what is no address', [['x-forwarded-for', 'unknown']]],
    ['a forged name', [['x-forwarded-for', '<script>']]],
  ] satisfies [string, HeaderPairs][])(
    'keeps the socket’s address when the list holds %s',
    (_, headers) => {
      expect(peer(V4, { headers, trusted: ['192.0.2.0/24'] }).remote).toEqual({
        address: '192.0.2.7',
        port: 4_242,
      });
    },
  );

  test('trusts a range for its own kind of address', () => {
    const trusted = ['2001:db8::/32'];
    expect(peer(V6, { headers: FORWARDED, trusted }).remote.address).toBe('203.0.113.5');
    expect(peer(V4, { headers: FORWARDED, trusted: ['::/0'] }).remote.address).toBe('192.0.2.7');
    expect(peer(V4_IN_V6, { headers: FORWARDED, trusted: ['192.0.2.0/24'] }).isSecure).toBe(true);
  });

  test('asks our TLS terminator about Unix sockets only', () => {
    expect(peer(NONE, { terminated: stranger })).toEqual({
      remote: { address: '198.51.100.9', port: 99 },
      isSecure: true,
    });
    expect(peer(V4, { terminated: stranger, proxied: V6 })).toEqual({
      remote: { address: '192.0.2.7', port: 4_242 },
      isSecure: false,
    });
  });

  test('behind our own TLS, a proxy is trusted by its own address', () => {
    const headers: HeaderPairs = [['x-forwarded-for', '203.0.113.5']];
    expect(peer(NONE, { terminated: proxy, headers, trusted: ['192.0.2.0/24'] })).toEqual({
      remote: { address: '203.0.113.5', port: 0 },
      isSecure: true,
    });
  });

  test('takes the client that a trusted proxy names by the PROXY protocol before any header', () => {
    const options = { proxied: Uint8Array.of(198, 51, 100, 77), headers: FORWARDED };
    expect(peer(V4, { ...options, trusted: ['192.0.2.0/24'] }).remote).toEqual({
      address: '198.51.100.77',
      port: 0,
    });
    expect(peer(V4, { ...options, trusted: ['10.0.0.0/8'] }).remote.address).toBe('192.0.2.7');
    // Another trusted proxy stands before it: the client is in the header.
    expect(peer(V4, { ...options, trusted: ['192.0.2.0/24', '198.51.100.77/32'] }).remote).toEqual({
      address: '203.0.113.5',
      port: 0,
    });
  });

  test('takes no PROXY header of a client behind our own terminator', () => {
    const { remote } = peer(NONE, {
      proxied: Uint8Array.of(198, 51, 100, 77),
      terminated: proxy,
      trusted: ['192.0.2.0/24'],
    });
    expect(remote.address).toBe('192.0.2.7');
  });
});
