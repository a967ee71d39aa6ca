import { generateKeyPairSync, randomUUID, type KeyObject } from 'node:crypto';
import { pointOf, signBytes, signCompact } from '../../src/crypto/es256.ts';
import { proofText } from '../../src/dispatch/machine-requests.ts';
import { assertionAudience } from '../../src/dispatch/machine-tokens.ts';

/** What a machine makes for itself before it registers. */
export class MachineKeys {
  readonly identity = newKey();
  readonly encryption = newKey();

  /** A registration's body, proved for an environment. */
  registration(change: object = {}, environment = 'dev'): object {
    const body = {
      name: 'desk',
      identityKey: pointOf(this.identity),
      encryptionKey: { suite: 'p256', point: pointOf(this.encryption) },
      installId: 'install-1',
      agentVersion: '1.0.0',
      os: 'linux',
      ...change,
    };
    return { ...body, proof: signBytes(this.identity, Buffer.from(proofText(environment, body))) };
  }

  assertion(machineId: string, nowMs: number, change: object = {}): string {
    const iat = Math.floor(nowMs / 1_000);
    const aud = assertionAudience('dev');
    const claims = {
      iss: machineId,
      sub: machineId,
      aud,
      iat,
      exp: iat + 300,
      jti: randomUUID(),
      ...change,
    };
    return signCompact({ kid: 'identity', privateKey: this.identity }, claims);
  }
}

function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}
