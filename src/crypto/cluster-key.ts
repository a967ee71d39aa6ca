import { hkdfSync } from 'node:crypto';
import { contextBytes, LABEL } from './context.ts';
import { deriveScalar } from './hpke.ts';
import { openingKeyOf, type OpeningKey } from './key-pair.ts';
import { KDF_DEFAULT, masterOf, type KdfParameters } from './password-key.ts';

const IKM_BYTES = 32;

/**
 * The key pair of a gateway cluster, made anew on every member from the recovery key: as typed, in
 * Unicode's form NFKC, nothing trimmed. Source: job-dispatch.md 12.5.
 */
export async function clusterKeyOf(
  recoveryKey: string,
  about: {
    readonly clusterId: string;
    readonly generation: number;
    readonly salt: Uint8Array;
    readonly kdf?: KdfParameters;
  },
): Promise<OpeningKey> {
  const master = await masterOf(recoveryKey, about.salt, about.kdf ?? KDF_DEFAULT);
  const generation = String(about.generation);
  const info = contextBytes(LABEL, 'cluster-encryption', about.clusterId, generation);
  const ikm = new Uint8Array(hkdfSync('sha256', master, new Uint8Array(0), info, IKM_BYTES));
  master.fill(0);
  const scalar = await deriveScalar(ikm);
  ikm.fill(0);
  const key = await openingKeyOf(scalar);
  scalar.fill(0);
  return key;
}
