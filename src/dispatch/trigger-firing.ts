import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { CLOCK_SKEW_MS_MAX } from '../jobs/limits.ts';
import { TRIGGER, type Trigger } from './automation-records.ts';
import { Problem } from './problem.ts';
import { countInMinute } from './rate.ts';
import type { Draft, Repository } from './repository.ts';
import type { RunAs } from './run-as.ts';
import type { Submitted } from './runs.ts';
import { triggerRate } from './triggers.ts';
import { isWebhookSigned, type WebhookHeaders } from './webhook-signature.ts';

/** A delivery that is older or newer is not taken. */
const WINDOW_MS = CLOCK_SKEW_MS_MAX;
const DELIVERY_ID = /^[A-Za-z0-9._~-]{1,128}$/;

const inputsSchema = v.optional(v.record(v.string(), v.unknown()), {});

export interface Delivery {
  /** Undefined: the header is missing. */
  readonly headers: { readonly [Name in keyof WebhookHeaders]: string | undefined };
  readonly body: Uint8Array;
}

/** Requests from outside that start runs: signed, of the last five minutes, each taken once. */
export class TriggerFiring {
  readonly #repository: Repository;
  readonly #runAs: RunAs;
  readonly #clock: Clock;

  constructor(repository: Repository, runAs: RunAs, clock: Clock) {
    this.#repository = repository;
    this.#runAs = runAs;
    this.#clock = clock;
  }

  /**
   * Starts a run with the body as its input `payload`. A delivery that comes again within a day gets the run
   * that it has started. Throws `TokenInvalid` for whatever is not signed, also when there is no such trigger;
   * `RequestMalformed` for a body that is not JSON, `TriggerThrottled`, and what `Runs.submit` throws.
   */
  async receive(triggerId: string, { headers, body }: Delivery): Promise<Submitted> {
    const { id = '', timestamp = '', signature = '' } = headers;
    const trigger = (await this.#repository.get(TRIGGER, triggerId))?.value;
    const isSigned =
      trigger !== undefined &&
      DELIVERY_ID.test(id) &&
      isWebhookSigned(this.#secretsOf(trigger), { id, timestamp, signature }, body);
    if (trigger === undefined || !isSigned) {
      throw new Problem('TokenInvalid', 'see webhook-id, webhook-timestamp and webhook-signature');
    }
    this.#requireNow(timestamp);
    if (!trigger.isEnabled) throw new Problem('AccessDenied', 'the trigger is switched off');
    const inputs = v.parse(inputsSchema, trigger.run['inputs']);
    return this.#runAs.submit(trigger.runOwner, {
      body: { ...trigger.run, inputs: { ...inputs, payload: payloadOf(body) } },
      key: id,
      keyOf: `trigger:${triggerId}`,
      trigger: 'webhook',
      with: (draft, runId) => this.#count(draft, trigger, runId),
    });
  }

  #secretsOf({ secret, formerSecret }: Trigger): readonly string[] {
    const isGood = formerSecret !== undefined && formerSecret.untilMs > this.#clock.wallMs();
    return isGood ? [secret, formerSecret.secret] : [secret];
  }

  #requireNow(timestamp: string): void {
    const atMs = /^\d{1,12}$/.test(timestamp) ? Number(timestamp) * 1_000 : Number.NaN;
    const apartMs = Math.abs(this.#clock.wallMs() - atMs);
    if (!(apartMs <= WINDOW_MS)) {
      throw new Problem('TokenInvalid', 'webhook-timestamp is more than 5 minutes away from now');
    }
  }

  #count(draft: Draft, { id, runsPerMinuteMax }: Trigger, runId: string): Promise<void> {
    const rate = {
      name: triggerRate(id),
      max: runsPerMinuteMax,
      nowMs: this.#clock.wallMs(),
      problem: (retryAfterSeconds: number) =>
        new Problem('TriggerThrottled', undefined, { retryAfterSeconds }),
    };
    return countInMinute(draft, this.#repository, rate, runId);
  }
}

/** Nothing at all is null. */
function payloadOf(body: Uint8Array): unknown {
  if (body.length === 0) return null;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(body);
    const payload: unknown = JSON.parse(text);
    return payload;
  } catch {
    throw new Problem('RequestMalformed', 'the body is not JSON');
  }
}
