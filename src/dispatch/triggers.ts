import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { requireIn, requireMay, withGrant, type Action, type Caller } from './access.ts';
import { audit } from './audit.ts';
import { TRIGGER, type Trigger } from './automation-records.ts';
import { newId, parseBody, requireVersion } from './checks.ts';
import { repetitionOf } from './idempotency.ts';
import { pageOf, type Page, type PageQuery } from './paging.ts';
import { Problem } from './problem.ts';
import { clearRate } from './rate.ts';
import { grantSchema, nameSchema, principalSchema, type Grant } from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import { runTemplateSchema } from './run-request.ts';
import { requireRunnable } from './run-template.ts';
import { newWebhookSecret, shownSecret } from './webhook-signature.ts';

const TRIGGERS_INDEX = 'triggers';
const TRIGGERS_MAX = 1_000;
const RUNS_PER_MINUTE_DEFAULT = 60;
const RUNS_PER_MINUTE_MAX = 600;
/** A secret that was replaced is good for so long, so that both ends can be changed one after the other. */
const FORMER_SECRET_MS = 24 * 3_600_000;

const rateSchema = v.pipe(
  v.number(),
  v.safeInteger(),
  v.minValue(1),
  v.maxValue(RUNS_PER_MINUTE_MAX),
);
export const newTriggerSchema = v.strictObject({
  name: nameSchema,
  isEnabled: v.optional(v.boolean(), true),
  runsPerMinuteMax: v.optional(rateSchema, RUNS_PER_MINUTE_DEFAULT),
  run: runTemplateSchema,
});
export const triggerPatchSchema = v.strictObject({
  name: v.optional(nameSchema),
  isEnabled: v.optional(v.boolean()),
  runsPerMinuteMax: v.optional(rateSchema),
  run: v.optional(runTemplateSchema),
});

/** A trigger without its secrets: what people are shown. */
export type ShownTrigger = Omit<Trigger, 'secret' | 'formerSecret'>;

/** With the secret, which is told this once. */
export interface NewTrigger {
  readonly trigger: Versioned<Trigger>;
  /** `whsec_…`; undefined: the request was repeated, and it was told before. */
  readonly secret: string | undefined;
}

export function triggerRate(id: string): string {
  return `trigger-rate:${id}`;
}

/** Runs that are started by a request from outside, as people set them. Who asks is in trigger-firing.ts. */
export class Triggers {
  readonly #repository: Repository;
  readonly #clock: Clock;

  constructor(repository: Repository, clock: Clock) {
    this.#repository = repository;
    this.#clock = clock;
  }

  async create(caller: Caller, body: unknown, key?: string): Promise<NewTrigger> {
    requireIn(caller, 'run');
    const request = parseBody(newTriggerSchema, body);
    return this.#repository.change<NewTrigger>(async () => {
      const nowMs = this.#clock.wallMs();
      const about = { key, caller: caller.name, kind: 'trigger', body };
      const repetition = await repetitionOf(this.#repository, about, nowMs);
      if (repetition.resourceId !== undefined) {
        const trigger = await this.#get(caller, 'view', repetition.resourceId);
        return { draft: new Draft(), answer: { trigger, secret: undefined } };
      }
      await requireRunnable(this.#repository, caller, request.run);
      const id = newId();
      const secret = newWebhookSecret();
      const value: Trigger = {
        ...request,
        id,
        secret,
        runOwner: caller.name,
        owner: caller.name,
        access: {},
        createdAtMs: nowMs,
        createdBy: caller.name,
      };
      const full = new Problem('QuotaReached', `an environment has ${TRIGGERS_MAX} triggers`);
      const draft = new Draft()
        .create(TRIGGER, id, value)
        .below(TRIGGERS_INDEX, TRIGGERS_MAX, full)
        .add(TRIGGERS_INDEX, id, nowMs);
      repetition.remember(draft, id);
      this.#audit(draft, caller, 'trigger.create', value);
      const trigger = { id, version: 1, value };
      return { draft, answer: { trigger, secret: shownSecret(secret) } };
    });
  }

  get(caller: Caller, id: string): Promise<Versioned<Trigger>> {
    return this.#get(caller, 'view', id);
  }

  list(caller: Caller, query: PageQuery): Promise<Page<Trigger>> {
    requireIn(caller, 'view');
    return pageOf(this.#repository, { kind: TRIGGER, index: TRIGGERS_INDEX }, query);
  }

  /** Whoever changes what is run is the one whose rights count from then on. */
  patch(
    caller: Caller,
    id: string,
    ifMatch: number | undefined,
    body: unknown,
  ): Promise<Versioned<Trigger>> {
    const patch = parseBody(triggerPatchSchema, body);
    return this.#change(caller, id, 'trigger.patch', 'edit', async before => {
      requireVersion(before, ifMatch);
      const { value } = before;
      if (patch.run !== undefined) {
        await requireRunnable(this.#repository, caller, patch.run);
      }
      return {
        ...value,
        name: patch.name ?? value.name,
        isEnabled: patch.isEnabled ?? value.isEnabled,
        runsPerMinuteMax: patch.runsPerMinuteMax ?? value.runsPerMinuteMax,
        run: patch.run ?? value.run,
        runOwner: patch.run === undefined ? value.runOwner : caller.name,
      };
    });
  }

  /** A new secret, told this once; the old one is good for a day more. */
  async rotateSecret(caller: Caller, id: string): Promise<NewTrigger> {
    const secret = newWebhookSecret();
    const trigger = await this.#change(caller, id, 'trigger.rotate-secret', 'edit', async before =>
      Promise.resolve({
        ...before.value,
        secret,
        formerSecret: {
          secret: before.value.secret,
          untilMs: this.#clock.wallMs() + FORMER_SECRET_MS,
        },
      }),
    );
    return { trigger, secret: shownSecret(secret) };
  }

  setAccess(
    caller: Caller,
    id: string,
    principal: string,
    grant: Grant | undefined,
  ): Promise<Versioned<Trigger>> {
    const name = parseBody(principalSchema, principal);
    const given = parseBody(v.optional(grantSchema), grant);
    const action = `trigger.access.${given ?? 'none'}:${name}`;
    return this.#change(caller, id, action, 'share', async ({ value }) =>
      Promise.resolve({ ...value, access: withGrant(value.access, name, given) }),
    );
  }

  async delete(caller: Caller, id: string, ifMatch: number | undefined): Promise<void> {
    await this.#repository.change(async () => {
      const trigger = await this.#get(caller, 'delete', id);
      requireVersion(trigger, ifMatch);
      const draft = new Draft().remove(TRIGGER, trigger).drop(TRIGGERS_INDEX, id);
      clearRate(draft, triggerRate(id));
      this.#audit(draft, caller, 'trigger.delete', trigger.value);
      return { draft, answer: undefined };
    });
  }

  async #get(caller: Caller, action: Action, id: string): Promise<Versioned<Trigger>> {
    requireIn(caller, 'view');
    const trigger = await this.#repository.get(TRIGGER, id);
    if (trigger === undefined) throw new Problem('NotFound', 'there is no such trigger');
    requireMay(caller, action, trigger.value);
    return trigger;
  }

  #change(
    caller: Caller,
    id: string,
    action: string,
    needed: Action,
    change: (before: Versioned<Trigger>) => Promise<Trigger>,
  ): Promise<Versioned<Trigger>> {
    return this.#repository.change(async () => {
      const before = await this.#get(caller, needed, id);
      const value = await change(before);
      const draft = new Draft().replace(TRIGGER, before, value);
      this.#audit(draft, caller, action, value);
      return { draft, answer: { id, version: before.version + 1, value } };
    });
  }

  #audit(draft: Draft, caller: Caller, action: string, { id, runOwner }: Trigger): void {
    const entry = { atMs: this.#clock.wallMs(), action, by: caller.name, object: id };
    audit(draft, { ...entry, details: { runOwner } });
  }
}

/** What people are shown of a trigger. */
export function shownTrigger(trigger: Trigger): ShownTrigger {
  const { secret: _secret, formerSecret: _formerSecret, ...shown } = trigger;
  return shown;
}
