import { randomBytes } from 'node:crypto';
import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { requireIn, requireMay, type Caller } from './access.ts';
import { audit } from './audit.ts';
import { parseBody, sha256Of } from './checks.ts';
import { pageOf, type Page, type PageQuery } from './paging.ts';
import { Problem } from './problem.ts';
import { CODE, GROUP, idSchema, labelsSchema, nameSchema, type ActivationCode } from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';

const PREFIX = 'hwa_';
const SECRET_BYTES = 20;
/** Of the hash, as the record's id. */
const ID_CHARS = 22;
const INDEX = 'codes';
const HOUR_SECONDS = 3_600;
const SECONDS_DEFAULT = 24 * HOUR_SECONDS;
const SECONDS_MAX = 30 * 24 * HOUR_SECONDS;
const USES_MAX = 10_000;

export const newCodeSchema = v.strictObject({
  name: v.optional(nameSchema, 'activation code'),
  expiresInSeconds: v.optional(
    v.pipe(v.number(), v.safeInteger(), v.minValue(60), v.maxValue(SECONDS_MAX)),
    SECONDS_DEFAULT,
  ),
  uses: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(USES_MAX)), 1),
  /** The group that machines registered with it may join. */
  groupId: v.optional(idSchema),
  labels: v.optional(labelsSchema, {}),
});

/** Codes by which machines register without anybody signing in there. Source: job-dispatch.md section 3.3. */
export class ActivationCodes {
  readonly #repository: Repository;
  readonly #clock: Clock;

  constructor(repository: Repository, clock: Clock) {
    this.#repository = repository;
    this.#clock = clock;
  }

  /** Makes a code; its text is told this once. */
  async create(
    caller: Caller,
    body: unknown,
  ): Promise<{ readonly text: string; readonly code: ActivationCode }> {
    requireIn(caller, 'make');
    const { name, expiresInSeconds, uses, groupId, labels } = parseBody(newCodeSchema, body);
    if (groupId !== undefined) await this.#requireGroup(caller, groupId);
    const text = `${PREFIX}${randomBytes(SECRET_BYTES).toString('base64url')}`;
    const sha256 = sha256Of(text);
    const id = sha256.slice(0, ID_CHARS);
    const nowMs = this.#clock.wallMs();
    const code: ActivationCode = {
      id,
      sha256,
      name,
      expiresAtMs: nowMs + expiresInSeconds * 1_000,
      usesLeft: uses,
      ...(groupId === undefined ? {} : { groupId }),
      labels,
      createdAtMs: nowMs,
      createdBy: caller.name,
    };
    return this.#repository.change(async () => {
      const draft = new Draft().create(CODE, id, code).add(INDEX, id, nowMs);
      audit(draft, { atMs: nowMs, action: 'code.create', by: caller.name, object: id });
      return Promise.resolve({ draft, answer: { text, code } });
    });
  }

  list(caller: Caller, query: PageQuery): Promise<Page<ActivationCode>> {
    requireIn(caller, 'make');
    const from = { kind: CODE, index: INDEX };
    return pageOf(
      this.#repository,
      from,
      query,
      ({ createdBy }) => caller.role === 'owner' || createdBy === caller.name,
    );
  }

  async delete(caller: Caller, id: string): Promise<void> {
    requireIn(caller, 'make');
    await this.#repository.change(async () => {
      const code = await this.#repository.get(CODE, id);
      const isTheirs = caller.role === 'owner' || code?.value.createdBy === caller.name;
      if (code === undefined || !isTheirs) throw new Problem('NotFound');
      const draft = new Draft().remove(CODE, code).drop(INDEX, id);
      const atMs = this.#clock.wallMs();
      audit(draft, { atMs, action: 'code.delete', by: caller.name, object: id });
      return { draft, answer: undefined };
    });
  }

  /** The code of this text, while it is good. Throws `TokenInvalid`, which does not say why. */
  async find(text: string): Promise<Versioned<ActivationCode>> {
    const sha256 = sha256Of(text);
    const code = await this.#repository.get(CODE, sha256.slice(0, ID_CHARS));
    const isGood =
      code?.value.sha256 === sha256 &&
      code.value.usesLeft > 0 &&
      code.value.expiresAtMs > this.#clock.wallMs();
    if (code === undefined || !isGood) {
      throw new Problem('TokenInvalid', 'the activation code is wrong, used up or expired');
    }
    return code;
  }

  /** Whoever has the code lets machines into the group: so must whoever makes it be able to. */
  async #requireGroup(caller: Caller, groupId: string): Promise<void> {
    const group = await this.#repository.get(GROUP, groupId);
    if (group === undefined) throw new Problem('MachineGroupNotFound');
    requireMay(caller, 'edit', group.value);
  }

  /** Adds to a registration's draft that the code was used once more. */
  use(draft: Draft, code: Versioned<ActivationCode>): void {
    draft.replace(CODE, code, { ...code.value, usesLeft: code.value.usesLeft - 1 });
  }
}
