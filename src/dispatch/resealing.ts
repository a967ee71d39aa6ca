import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { envelopeSchema } from '../jobs/messages.ts';
import { audit } from './audit.ts';
import type { MachineCommands } from './machine-commands.ts';
import { Problem } from './problem.ts';
import { CONNECTION, TENANT, type Connection, type PublicKey, type Target } from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import { moveSealed, sealedIndex } from './sealed-index.ts';

/** Connections in one command: their envelopes stay far below what a machine takes at once. */
const AT_A_TIME = 20;
const ITEMS_MAX = 100;

const answerSchema = v.object({
  items: v.pipe(
    v.array(v.object({ connectionId: v.string(), version: v.number(), envelope: envelopeSchema })),
    v.maxLength(ITEMS_MAX),
  ),
  /** Those that it could not open or would not seal. */
  refused: v.optional(
    v.pipe(
      v.array(v.object({ connectionId: v.string(), code: v.string() })),
      v.maxLength(ITEMS_MAX),
    ),
    [],
  ),
});

interface SealedTo {
  readonly target: Target;
  readonly from: PublicKey;
}

export interface Reseal extends SealedTo {
  readonly to: PublicKey;
  /** Has proved both keys. */
  readonly machineId: string;
  /** In whose name it is done. */
  readonly by: string;
}

export interface Resealed {
  readonly resealed: number;
  /** Credentials that stay as they are, and why. */
  readonly refused: readonly { readonly connectionId: string; readonly code: string }[];
}

/**
 * Has a machine open what is sealed to one key and seal it to another, connection by connection. Nothing passes
 * here but what is sealed; only connections whose owner allows it are sent. Source: job-dispatch.md section 12.7.
 */
export class Resealing {
  readonly #repository: Repository;
  readonly #commands: MachineCommands;
  readonly #clock: Clock;

  constructor(repository: Repository, commands: MachineCommands, clock: Clock) {
    this.#repository = repository;
    this.#commands = commands;
    this.#clock = clock;
  }

  /** Throws what `MachineCommands.send` throws; what was sealed anew before stays so. */
  async reseal(about: Reseal): Promise<Resealed> {
    let resealed = 0;
    const refused: Resealed['refused'][number][] = [];
    let after: { readonly member: string; readonly score: number } | undefined;
    for (;;) {
      const entries = await this.#repository.range(sealedIndex(about.from.kid), {
        limit: AT_A_TIME,
        ...(after === undefined ? {} : { after }),
      });
      after = entries.at(-1);
      const ids = entries.map(({ member }) => member);
      const found = await this.#repository.getMany(CONNECTION, ids);
      const wanted = found.filter(({ value }) => isToBeResealed(value, about));
      if (wanted.length > 0) {
        const answer = await this.#ask(about, wanted);
        refused.push(...answer.refused);
        for (const item of answer.items) {
          const asked = wanted.find(({ id }) => id === item.connectionId);
          if (asked !== undefined && (await this.#take(about, asked, item))) resealed += 1;
        }
      }
      if (entries.length < AT_A_TIME) return { resealed, refused };
    }
  }

  async #ask(
    { machineId, target, from, to }: Reseal,
    wanted: readonly Versioned<Connection>[],
  ): Promise<v.InferOutput<typeof answerSchema>> {
    const answer = await this.#commands.send(machineId, 'reseal', {
      tenant: TENANT,
      environment: this.#repository.partition,
      targetKind: target.kind,
      targetId: target.id,
      from: { kid: from.kid },
      to,
      items: wanted.map(({ id, value }) => ({
        connectionId: id,
        version: value.credentialVersion,
        envelope: value.envelope,
      })),
    });
    const parsed = v.safeParse(answerSchema, answer);
    if (!parsed.success) throw new Problem('DesktopFlowMalformedMachineResponse');
    return parsed.output;
  }

  /** The new envelope takes the place of the old one, unless that is not there any more. */
  async #take(
    { from, to, target, machineId, by }: Reseal,
    asked: Versioned<Connection>,
    { version, envelope }: v.InferOutput<typeof answerSchema>['items'][number],
  ): Promise<boolean> {
    const { credentialVersion } = asked.value;
    // Bound to the next version, and to the key that was asked for: anything else nobody could open.
    if (version !== credentialVersion + 1 || envelope.kid !== to.kid) return false;
    return this.#repository.change(async () => {
      const before = await this.#repository.get(CONNECTION, asked.id);
      const draft = new Draft();
      const isSame = before?.value.credentialVersion === credentialVersion;
      if (before === undefined || !isSame || !isToBeResealed(before.value, { from, target })) {
        return { draft, answer: false };
      }
      const nowMs = this.#clock.wallMs();
      const value = { ...before.value, envelope, credentialVersion: version, updatedAtMs: nowMs };
      draft.replace(CONNECTION, before, value);
      moveSealed(draft, before.value, value);
      const entry = { atMs: nowMs, action: 'connection.reseal', by, object: asked.id };
      audit(draft, { ...entry, details: { machineId, from: from.kid, to: to.kid, version } });
      return { draft, answer: true };
    });
  }
}

function isToBeResealed(
  { mayReseal, envelope, target, suspended }: Connection,
  about: SealedTo,
): boolean {
  const isTheirs = target.kind === about.target.kind && target.id === about.target.id;
  return mayReseal && isTheirs && suspended === undefined && envelope?.kid === about.from.kid;
}
