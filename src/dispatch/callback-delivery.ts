import type { CancelTimer, Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { CallbackKeys } from './callback-keys.ts';
import type { CallbackAnswer, CallbackSender } from './callback-sender.ts';
import { CALLBACK, OUTBOX_INDEX, type Callback } from './callbacks.ts';
import { oneByOne } from './one-by-one.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import { appendEvent, type RunEventEntry } from './run-events.ts';
import { RUN } from './run-record.ts';
import { signWebhook } from './webhook-signature.ts';

const AT_A_TIME = 20;
const TIMEOUT_MS = 10_000;
/** Whoever has taken one up and is not heard of again has died. */
const CLAIM_MS = 60_000;
const SOON_MS = 1_000;
const SOON_TRIES = 3;
const LATER_MS_MAX = 3_600_000;
/** Nothing is tried for longer. */
const GIVE_UP_MS = 24 * 3_600_000;
const TRIED_AGAIN: ReadonlySet<number> = new Set([408, 425, 429]);

/** How long after a try the next one comes: three times a second, then twice as long each time, up to an hour. */
export function retryAfterMs(tries: number): number {
  if (tries <= SOON_TRIES) return SOON_MS;
  return Math.min(SOON_MS * 2 ** (tries - SOON_TRIES), LATER_MS_MAX);
}

/**
 * Makes the callbacks that wait. Each is told at least once: a process that dies between the answer and the
 * step that forgets it leads to the same delivery again, with the same `webhook-id`.
 */
export class CallbackDelivery {
  readonly #repository: Repository;
  readonly #sender: CallbackSender;
  readonly #keys: CallbackKeys;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #wake: () => void;
  readonly #timers = new Set<CancelTimer>();
  #isStopped = false;

  /** `wake`: is to have `sweep` called. */
  constructor(of: {
    readonly repository: Repository;
    readonly sender: CallbackSender;
    readonly keys: CallbackKeys;
    readonly clock: Clock;
    readonly log: Logger;
    readonly wake: () => void;
  }) {
    this.#repository = of.repository;
    this.#sender = of.sender;
    this.#keys = of.keys;
    this.#clock = of.clock;
    this.#log = of.log;
    this.#wake = of.wake;
  }

  /** Tries all that are due, one after the other. Several at once share them. */
  async sweep(): Promise<void> {
    let tried = 1;
    while (tried > 0 && !this.#isStopped) {
      tried = 0;
      const query = { to: this.#clock.wallMs(), limit: AT_A_TIME };
      const due = await this.#repository.range(OUTBOX_INDEX, query);
      await oneByOne(due, async ({ member }) => {
        const claimed = await this.#claim(member);
        if (claimed === undefined) return;
        tried += 1;
        await this.#try(claimed);
      });
    }
  }

  /** Nothing new is tried. */
  stop(): void {
    this.#isStopped = true;
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
  }

  /** Undefined: somebody else has it, or it is done. */
  async #claim(id: string): Promise<Versioned<Callback> | undefined> {
    let isFirst = true;
    return this.#repository.change<Versioned<Callback> | undefined>(async () => {
      const before = isFirst ? await this.#repository.get(CALLBACK, id) : undefined;
      isFirst = false;
      const nowMs = this.#clock.wallMs();
      const draft = new Draft();
      if (before === undefined || before.value.nextAtMs > nowMs || this.#isStopped) {
        return { draft, answer: undefined };
      }
      const value = { ...before.value, tries: before.value.tries + 1, nextAtMs: nowMs + CLAIM_MS };
      draft.replace(CALLBACK, before, value).add(OUTBOX_INDEX, id, value.nextAtMs);
      return { draft, answer: { id, version: before.version + 1, value } };
    });
  }

  async #try(callback: Versioned<Callback>): Promise<void> {
    const { id, url, body, owner, tries, createdAtMs, runId } = callback.value;
    const timestamp = String(Math.floor(this.#clock.wallMs() / 1_000));
    const signature = signWebhook(await this.#keys.keyOf(owner), { id, timestamp }, body);
    const headers = {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      'webhook-signature': signature,
    };
    const answer = await this.#sender.send({ url, headers, body, timeoutMs: TIMEOUT_MS });
    if (answer.type === 'answer' && answer.status >= 200 && answer.status < 300) {
      await this.#over(callback, { type: 'callbackDelivered' });
      return;
    }
    const message = answer.type === 'answer' ? `answer ${answer.status}` : answer.why;
    const nowMs = this.#clock.wallMs();
    const delayMs = retryAfterMs(tries);
    if (!mayBeTriedAgain(answer) || nowMs + delayMs > createdAtMs + GIVE_UP_MS) {
      const environment = this.#repository.partition;
      this.#log.warn({ environment, runId, tries, why: message }, 'a callback was given up');
      await this.#over(callback, { type: 'callbackFailed', message });
      return;
    }
    await this.#again(callback, nowMs + delayMs);
    this.#wakeIn(delayMs);
  }

  async #again(before: Versioned<Callback>, nextAtMs: number): Promise<void> {
    await this.#settle(before, draft => {
      draft.replace(CALLBACK, before, { ...before.value, nextAtMs });
      draft.add(OUTBOX_INDEX, before.id, nextAtMs);
    });
  }

  async #over(before: Versioned<Callback>, told: Omit<RunEventEntry, 'atMs'>): Promise<void> {
    const run = await this.#repository.get(RUN, before.value.runId);
    await this.#settle(before, draft => {
      draft.remove(CALLBACK, before).drop(OUTBOX_INDEX, before.id);
      // A run that is gone has no log any more, and gets none.
      if (run === undefined) return;
      appendEvent(draft, run.id, { atMs: this.#clock.wallMs(), ...told });
    });
  }

  /** Unless somebody else has taken it up meanwhile, because this took so long. */
  async #settle(before: Versioned<Callback>, fill: (draft: Draft) => void): Promise<void> {
    await this.#repository.change(async () => {
      const draft = new Draft();
      const now = await this.#repository.get(CALLBACK, before.id);
      if (now?.version === before.version) fill(draft);
      return { draft, answer: undefined };
    });
  }

  /** The first tries come sooner than anybody looks again. */
  #wakeIn(delayMs: number): void {
    if (this.#isStopped || delayMs > SOON_MS) return;
    const cancel = this.#clock.after(delayMs, () => {
      this.#timers.delete(cancel);
      this.#wake();
    });
    this.#timers.add(cancel);
  }
}

/** Whatever may be otherwise the next time. A redirect, a 404 or an address that is refused is meant so. */
function mayBeTriedAgain(answer: CallbackAnswer): boolean {
  if (answer.type === 'fault') return answer.why !== 'address-refused';
  return answer.status >= 500 || TRIED_AGAIN.has(answer.status);
}
