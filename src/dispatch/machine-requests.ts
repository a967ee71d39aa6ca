import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { isSignedBy, verifyingKeyOf } from '../crypto/es256.ts';
import { decodeBase64Url } from '../crypto/base64url.ts';
import { importPublicKey } from '../crypto/hpke.ts';
import { keyIdOf } from '../crypto/key-id.ts';
import { UNATTENDED_BOTS_MAX } from '../jobs/limits.ts';
import { Problem } from './problem.ts';
import {
  descriptionSchema,
  idSchema,
  labelsSchema,
  nameSchema,
  type PublicKey,
} from './records.ts';

const POINT = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{87}$/, 'must be a point of 65 bytes'));

/** What a machine registers with. `proof` is over all else, see `proofText`. */
export const registrationSchema = v.strictObject({
  name: nameSchema,
  description: v.optional(descriptionSchema, ''),
  identityKey: POINT,
  encryptionKey: v.strictObject({ suite: v.literal('p256'), point: POINT }),
  installId: idSchema,
  hardwareDigest: v.optional(v.pipe(v.string(), v.maxLength(256))),
  agentVersion: v.pipe(v.string(), v.regex(/^\d+\.\d+\.\d+/), v.maxLength(64)),
  os: v.pipe(v.string(), v.maxLength(256)),
  capacity: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(1)), 1),
  labels: v.optional(labelsSchema, {}),
  /** Takes the place of an earlier registration of this installation. */
  force: v.optional(v.boolean(), false),
  activationCode: v.optional(v.pipe(v.string(), v.maxLength(128))),
  proof: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{86}$/, 'must be a signature of 64 bytes')),
});
export type Registration = v.InferOutput<typeof registrationSchema>;

export const machinePatchSchema = v.strictObject({
  name: v.optional(nameSchema),
  description: v.optional(descriptionSchema),
  labels: v.optional(labelsSchema),
  allocatedBots: v.optional(
    v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(UNATTENDED_BOTS_MAX)),
  ),
  reuseSessions: v.optional(v.boolean()),
  lookAhead: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(50))),
  maintenance: v.optional(v.boolean()),
});

/**
 * What the identity key signs at registration: a label, the environment, and SHA-256 of the body without its
 * proof as JSON whose members are in the order of their names, at every depth.
 */
export function proofText(environment: string, body: object): string {
  const unproved = Object.fromEntries(Object.entries(body).filter(([name]) => name !== 'proof'));
  const digest = createHash('sha256').update(canonical(unproved)).digest('base64url');
  return `hyco-jobs/1 register ${environment} ${digest}`;
}

/**
 * Checks keys and proof of a registration. `body` is what was sent, since that was signed. Throws
 * `TokenInvalid` for a proof that does not hold, `RequestMalformed` for a key that is none.
 */
export async function provedKeys(
  environment: string,
  registration: Registration,
  body: unknown,
): Promise<PublicKey> {
  const identityKey = verifyingKeyOf(registration.identityKey);
  if (identityKey === undefined) throw badKey('identityKey');
  const { point } = registration.encryptionKey;
  const encryptionKey = await checkedKey(point, 'encryptionKey.point');
  // One key for two uses would tie the strength of each to the other.
  if (registration.identityKey === point) throw badKey('encryptionKey.point');
  const text = proofText(environment, typeof body === 'object' && body !== null ? body : {});
  if (!isSignedBy(identityKey, Buffer.from(text), registration.proof)) {
    throw new Problem('TokenInvalid', 'the proof is not a signature of the identity key');
  }
  return encryptionKey;
}

/** The record of a public key to seal to. Throws `RequestMalformed` when it is no point of the curve. */
export async function checkedKey(point: string, path: string): Promise<PublicKey> {
  const bytes = decodeBase64Url(point);
  try {
    if (bytes === undefined) throw badKey(path);
    await importPublicKey(bytes);
    return { kid: await keyIdOf(bytes), suite: 'p256', point };
  } catch {
    // Web Crypto and `keyIdOf` say no by different errors; all mean the same here.
    throw badKey(path);
  }
}

function badKey(path: string): Problem {
  const message = 'must be a public key of its own on P-256, as an uncompressed point';
  return new Problem('RequestMalformed', undefined, { errors: [{ path, message }] });
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_name, member: unknown) => {
    if (typeof member !== 'object' || member === null || Array.isArray(member)) return member;
    const sorted = Object.entries(member).toSorted(([one], [other]) => (one < other ? -1 : 1));
    return Object.fromEntries(sorted);
  });
}
