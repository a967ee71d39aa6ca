import { generateKeyPairSync } from 'node:crypto';
import { Readable } from 'node:stream';
import type { RelayedRequest } from '../../src/client/answer.ts';
import { signDetached } from '../../src/crypto/es256.ts';
import type { Offer } from '../../src/jobs/messages.ts';
import type { DispatchKey } from '../../src/machine/registration-record.ts';

/** A key that offers are signed with, and its public half as it is pinned. */
export function dispatchKey(kid = 'k'.repeat(43)) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
  const pinned: DispatchKey = { kty: 'EC', crv: 'P-256', kid, x, y };
  return {
    pinned,
    sign: (body: string, aud: string, iat = Math.floor(Date.now() / 1_000)) =>
      signDetached({ kid, privateKey }, body, { aud, iat }),
  };
}

/** A request as it comes from the relay. */
export function relayedRequest(of: {
  readonly target: string;
  readonly method?: string;
  readonly body?: string | Buffer;
  readonly signature?: string;
}): RelayedRequest {
  const { body = '', signature } = of;
  return {
    id: 'request-1',
    method: of.method ?? 'POST',
    target: of.target,
    headers: signature === undefined ? {} : { 'Halfway-Signature': signature },
    remote: { address: '192.0.2.1', port: 1 },
    hasBody: body.length > 0,
    body: Readable.from([Buffer.from(body)]),
    signal: new AbortController().signal,
  };
}

export function offerOf(change: Partial<Offer> = {}): Offer {
  return {
    v: 1,
    type: 'offer',
    runId: 'r1',
    attempt: 1,
    fence: 1,
    deadline: '2030-01-01T00:00:00.000Z',
    mode: 'unattended',
    job: { ref: 'x', kind: 'command', command: ['true'] },
    connection: { id: 'c1', version: 3, targetKind: 'machine', targetId: 'm1' },
    inputs: {},
    sealedInputs: {},
    limits: { runSeconds: 1, logBytes: 1, chunkBytes: 1, outputBytes: 1 },
    options: { reuseSession: false },
    ...change,
  };
}
