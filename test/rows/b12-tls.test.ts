import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, getCiphers, type SecureVersion } from 'node:tls';
import { expect, test } from 'vitest';
import { CIPHER_SUITES } from '../../src/transports/tls-terminator.ts';
import { makeCertificate, type Certificate } from '../support/certificate.ts';
import { startRelay } from '../support/relay.ts';
import { within } from '../support/within.ts';

// Row B12: TLS 1.2 at least, 1.3 before it, and the suites that are documented and no others.

/** OpenSSL offers what is weak only when told that security does not matter. */
const EVERYTHING = 'ALL:@SECLEVEL=0';

interface Offer {
  readonly min?: SecureVersion;
  readonly max?: SecureVersion;
  readonly ciphers?: string;
}

/** Protocol and suite that were agreed on, or the code with which there was no agreement. */
async function agreed(port: number, { min, max, ciphers = EVERYTHING }: Offer): Promise<string> {
  const socket = connect({
    port,
    host: '127.0.0.1',
    rejectUnauthorized: false,
    minVersion: min ?? 'TLSv1',
    maxVersion: max ?? 'TLSv1.3',
    ciphers,
  });
  try {
    await within('a handshake', once(socket, 'secureConnect'));
    return `${socket.getProtocol()} ${socket.getCipher().name}`;
  } catch (error) {
    if (error instanceof Error && 'code' in error) return String(error.code);
    throw error;
  } finally {
    socket.destroy();
  }
}

function relayWith({ certFile: tlsCert, keyFile: tlsKey }: Certificate) {
  return startRelay({ tlsCert, tlsKey });
}

test.each(['TLSv1', 'TLSv1.1'] as const)('a %s client is refused', async version => {
  using certificate = makeCertificate();
  const [cert, key] = [readFileSync(certificate.certFile), readFileSync(certificate.keyFile)];
  await using relay = await relayWith(certificate);
  const old = { min: version, max: version };
  expect(await agreed(relay.port, old)).toBe('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
  // The client can speak it: another server takes it.
  const lax = createServer({ cert, key, minVersion: version, ciphers: EVERYTHING });
  await once(lax.listen(0, '127.0.0.1'), 'listening');
  const address = lax.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  expect(await agreed(address.port, old)).toContain(`${version} `);
  lax.close();
});

test('1.2 is taken, and 1.3 before it', async () => {
  using certificate = makeCertificate();
  await using relay = await relayWith(certificate);
  expect(await agreed(relay.port, { max: 'TLSv1.2' })).toMatch(/^TLSv1\.2 /);
  expect(await agreed(relay.port, {})).toBe(`TLSv1.3 ${CIPHER_SUITES[0]}`);
});

test.each([
  ['ECDSA', 'ec -pkeyopt ec_paramgen_curve:prime256v1'],
  ['RSA', 'rsa:2048'],
])('with an %s certificate each documented suite is taken, and no other', async (kind, key) => {
  using certificate = makeCertificate([], key);
  await using relay = await relayWith(certificate);
  const names = getCiphers().map(name => name.toUpperCase());
  const taken: string[] = [];
  for (const name of names) {
    const version = name.startsWith('TLS_') ? 'TLSv1.3' : 'TLSv1.2';
    const offer = {
      min: version,
      max: version,
      ciphers: version === 'TLSv1.3' ? name : `${name}:@SECLEVEL=0`,
    } as const;
    if ((await agreed(relay.port, offer)) === `${version} ${name}`) taken.push(name);
  }
  expect(names.length).toBeGreaterThan(30);
  const expected = CIPHER_SUITES.filter(
    name => name.startsWith('TLS_') || name.startsWith(`ECDHE-${kind}-`),
  );
  expect(taken.toSorted()).toEqual(expected.toSorted());
});
