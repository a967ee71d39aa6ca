import * as v from 'valibot';
import { sealEnvelope, type Envelope } from '../crypto/envelope.ts';
import { openEnvelope, type OpeningFault } from '../crypto/open-envelope.ts';
import type { JobErrorCode } from '../jobs/error-codes.ts';
import { envelopeSchema } from '../jobs/messages.ts';
import type { HeldKeys } from './credential-opener.ts';

const ITEMS_MAX = 100;

const argsSchema = v.object({
  tenant: v.string(),
  environment: v.string(),
  targetKind: v.picklist(['machine', 'group']),
  targetId: v.string(),
  from: v.object({ kid: v.string() }),
  to: v.object({ kid: v.string() }),
  items: v.pipe(
    v.array(
      v.object({
        connectionId: v.string(),
        version: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
        envelope: envelopeSchema,
      }),
    ),
    v.maxLength(ITEMS_MAX),
  ),
});

export interface ResealedItems {
  readonly items: readonly {
    readonly connectionId: string;
    readonly version: number;
    readonly envelope: Envelope;
  }[];
  readonly refused: readonly { readonly connectionId: string; readonly code: OpeningFault }[];
}

/**
 * Opens what is sealed to one key of this machine or its group, and seals it to another one of the same
 * holder, each with the next version. Only to a key whose private half is here: a public key that the control
 * plane merely names may be anybody's. A code: none of it is done. Source: job-dispatch.md section 12.7.
 */
export async function resealed(
  held: HeldKeys,
  args: unknown,
): Promise<ResealedItems | JobErrorCode> {
  const parsed = v.safeParse(argsSchema, args);
  if (!parsed.success) return 'RequestMalformed';
  const { tenant, environment, targetKind, targetId, from, to, items } = parsed.output;
  const own =
    targetKind === 'machine' ? { id: held.machineId, keys: held.machineKeys } : held.group;
  const isOurs = tenant === held.tenant && environment === held.environment && own?.id === targetId;
  if (!isOurs) return 'CredentialContextMismatch';
  const next = own.keys.find(({ kid }) => kid === to.kid);
  if (next === undefined || from.kid === to.kid) return 'KeyIdUnknown';
  const before = own.keys.filter(({ kid }) => kid === from.kid);
  const holder = { tenant, environment, kind: targetKind, id: own.id } as const;
  const done: ResealedItems['items'][number][] = [];
  const refused: ResealedItems['refused'][number][] = [];
  for (const { connectionId, version, envelope } of items) {
    const about = { type: 'credential', object: 'connection', id: connectionId } as const;
    const plaintext = await openEnvelope(before, holder, { ...about, version }, envelope);
    if (typeof plaintext === 'string') {
      refused.push({ connectionId, code: plaintext });
      continue;
    }
    try {
      const purpose = { ...about, version: version + 1 };
      const sealed = await sealEnvelope(
        next.publicKey,
        { ...holder, kid: next.kid },
        purpose,
        plaintext,
      );
      done.push({ connectionId, version: version + 1, envelope: sealed });
    } finally {
      plaintext.fill(0);
    }
  }
  return { items: done, refused };
}
