import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { CLOCK_SKEW_MS_MAX } from '../jobs/limits.ts';
import type { Hello } from '../jobs/messages.ts';
import { ControlError, skewText } from './control-client.ts';
import type { MachineAccess } from './machine-access.ts';
import { MachineError, textOf } from './machine-error.ts';
import type { JobDoor } from './ports.ts';
import { dispatchKeySchema, type DispatchKey } from './registration-record.ts';
import { pause, retryDelayMs } from './retry.ts';
import type { ServiceStatus } from './service-status.ts';

const EVERY_SECONDS_DEFAULT = 30;
const EVERY_SECONDS_MIN = 2;
const EVERY_SECONDS_MAX = 60;
/** While two computers use one registration, asking often changes nothing. */
const CONFLICT_PAUSE_MS = 60_000;
/** Half of what makes tokens fail. */
const SKEW_WARNING_MS = CLOCK_SKEW_MS_MAX / 2;

const answerSchema = v.object({
  clockSkewMs: v.number(),
  standings: v.array(
    v.object({ runId: v.string(), standing: v.picklist(['current', 'over', 'lost']) }),
  ),
  helloEverySeconds: v.optional(v.number(), EVERY_SECONDS_DEFAULT),
  /** All that offers may be signed with. */
  dispatchKeys: v.optional(v.array(dispatchKeySchema)),
});

/** Tells the control plane again and again that this machine is there, and what it has in hand. */
export class HelloLoop {
  readonly #of: HelloParts;
  readonly #log: Logger;
  #wake = new AbortController();

  constructor(of: HelloParts) {
    this.#of = of;
    this.#log = of.log;
  }

  /** Speaks at once: what it says has changed. */
  hurry(): void {
    this.#wake.abort();
  }

  /** Until `signal` is aborted. Rejects with a `MachineError` when this machine is not registered any more. */
  async run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    signal.addEventListener('abort', () => this.hurry(), { once: true });
    while (!signal.aborted) {
      this.#wake = new AbortController();
      const { signal: hurried } = this.#wake;
      let delayMs: number;
      try {
        delayMs = await this.#speak(signal);
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        delayMs = this.#failed(error, failures);
      }
      await pause(this.#of.clock, delayMs, hurried);
    }
  }

  /** One hello. Returns when the next is due. */
  async #speak(signal: AbortSignal): Promise<number> {
    const { access, door, status, hello } = this.#of;
    const { body } = await access.call({
      method: 'POST',
      path: '/agent/hello',
      body: hello(),
      signal,
    });
    const parsed = v.safeParse(answerSchema, body);
    if (!parsed.success) {
      throw new ControlError(
        'Unreachable',
        'The control plane answers hellos in another form: is it another version?',
      );
    }
    const { clockSkewMs, standings, helloEverySeconds, dispatchKeys } = parsed.output;
    status.helloTaken(clockSkewMs);
    door.standings(standings);
    await this.#of.onTaken(dispatchKeys);
    if (Math.abs(clockSkewMs) > SKEW_WARNING_MS) {
      const off = `${skewText(clockSkewMs)} the control plane's`;
      this.#log.warn(
        { clockSkewMs },
        "this computer's clock is off: set it by NTP, or tokens begin to fail",
      );
      status.error('clock', `this computer's clock is ${off}`);
    }
    const seconds = Math.min(EVERY_SECONDS_MAX, Math.max(EVERY_SECONDS_MIN, helloEverySeconds));
    return seconds * 1_000;
  }

  #failed(error: unknown, failures: number): number {
    const { status, random } = this.#of;
    const isKnown = error instanceof ControlError;
    if (isKnown && (error.code === 'MachineNotFound' || error.code === 'EndpointDoNotExist')) {
      const message =
        'This machine is not registered any more: register it with "halfway machine register --force"';
      throw new MachineError('NotRegistered', message, { code: error.code, cause: error });
    }
    const why = textOf(error);
    status.helloRefused(why);
    status.error('hello', why);
    if (isKnown && error.code === 'MachineIdentityConflict') {
      this.#log.error(
        { code: error.code },
        'another computer uses the registration of this one, perhaps a copy of it: no run is given to either; ' +
          'register each of them with "halfway machine register --force"',
      );
      return CONFLICT_PAUSE_MS;
    }
    if (isKnown) this.#log.warn({ code: error.code, why, failures }, 'hello not taken');
    else this.#log.error({ err: error, failures }, 'hello failed');
    const retryAfterMs = isKnown ? (error.retryAfterMs ?? 0) : 0;
    return Math.max(retryAfterMs, retryDelayMs(failures, random));
  }
}

export interface HelloParts {
  readonly access: Pick<MachineAccess, 'call'>;
  readonly door: Pick<JobDoor, 'standings'>;
  readonly status: ServiceStatus;
  readonly clock: Clock;
  readonly log: Logger;
  /** What there is to say now. */
  readonly hello: () => Hello;
  /** A hello was taken. `published`: all keys that offers may be signed with. */
  readonly onTaken: (published: readonly DispatchKey[] | undefined) => Promise<void>;
  readonly random?: (() => number) | undefined;
}
