import { bindingOf, sealEnvelope, sealedOf, type Envelope } from '../../src/crypto/envelope.ts';
import { importPublicKey, open } from '../../src/crypto/hpke.ts';
import { newScalar, openingKeyOf, type OpeningKey } from '../../src/crypto/key-pair.ts';
import * as v from 'valibot';
import type { MachineRequest, MachineResponse } from '../../src/dispatch/machine-sender.ts';
import { commandSchema, envelopeSchema, parseMessage } from '../../src/jobs/messages.ts';

const resealSchema = v.object({
  tenant: v.string(),
  environment: v.string(),
  targetKind: v.picklist(['machine', 'group']),
  targetId: v.string(),
  from: v.object({ kid: v.string() }),
  to: v.object({ kid: v.string(), point: v.string() }),
  items: v.array(
    v.object({ connectionId: v.string(), version: v.number(), envelope: envelopeSchema }),
  ),
});

type Holder = Pick<v.InferOutput<typeof resealSchema>, 'targetKind' | 'targetId'>;

/** A machine's keys, and what it does with them when it is told to seal anew. */
export class KeyHolder {
  readonly keys = new Map<string, OpeningKey>();
  /** Changes what it answers, as a machine that is not to be trusted. */
  tamper: (item: { connectionId: string; version: number; envelope: Envelope }) => object = item =>
    item;

  async newKey(): Promise<OpeningKey & { readonly text: string }> {
    const key = await openingKeyOf(await newScalar());
    this.keys.set(key.kid, key);
    return { ...key, text: Buffer.from(key.point).toString('base64url') };
  }

  async answer(request: MachineRequest): Promise<MachineResponse> {
    const parsed = parseMessage(commandSchema, request.body);
    if (!('message' in parsed) || parsed.message.name !== 'reseal') return said(200, {});
    const args = v.parse(resealSchema, parsed.message.args);
    // It seals to no key that it has not got itself.
    if (!this.keys.has(args.to.kid)) return said(409, { code: 'KeyIdUnknown' });
    const items: object[] = [];
    const refused: object[] = [];
    for (const { connectionId, version, envelope } of args.items) {
      const text = await this.open(envelope, args, connectionId, version);
      if (text === undefined) {
        refused.push({ connectionId, code: 'CredentialContextMismatch' });
        continue;
      }
      const next = await seal(text, args.to, args, connectionId, version + 1);
      items.push(this.tamper({ connectionId, version: version + 1, envelope: next }));
    }
    return said(200, { items, refused });
  }

  /** What is sealed for a connection at a version; undefined: it does not open. */
  async open(
    envelope: Envelope,
    { targetKind: kind, targetId: id }: Holder,
    connectionId: string,
    version: number,
  ): Promise<string | undefined> {
    const key = this.keys.get(envelope.kid);
    const sealed = sealedOf(envelope);
    if (key === undefined || sealed === undefined) return undefined;
    const holder = { tenant: 'default', environment: 'dev', kind, id, kid: envelope.kid };
    const purpose = {
      type: 'credential',
      object: 'connection',
      id: connectionId,
      version,
    } as const;
    const bytes = await open(key, bindingOf(holder, purpose), sealed);
    return bytes === undefined ? undefined : Buffer.from(bytes).toString();
  }
}

/** Seals as a client does. */
export async function seal(
  text: string,
  to: { readonly kid: string; readonly point: string },
  { targetKind: kind, targetId: id }: Holder,
  connectionId: string,
  version: number,
): Promise<Envelope> {
  const recipient = await importPublicKey(new Uint8Array(Buffer.from(to.point, 'base64url')));
  const holder = { tenant: 'default', environment: 'dev', kind, id, kid: to.kid };
  const purpose = { type: 'credential', object: 'connection', id: connectionId, version } as const;
  return sealEnvelope(recipient, holder, purpose, new Uint8Array(Buffer.from(text)));
}

function said(status: number, body: object): MachineResponse {
  return { type: 'answer', status, body: JSON.stringify(body) };
}
