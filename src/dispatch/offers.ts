import type { Clock } from '../base/clock.ts';
import type { JobErrorCode } from '../jobs/error-codes.ts';
import {
  CANCEL_GRACE_SECONDS,
  LOG_BYTES_MAX,
  LOG_CHUNK_BYTES_MAX,
  OFFER_ANSWER_MS,
  OUTPUT_BYTES_MAX,
} from '../jobs/limits.ts';
import {
  offerAnswerSchema,
  parseMessage,
  type Cancel,
  type Offer,
  type OfferAnswer,
} from '../jobs/messages.ts';
import { formatMoment } from './moments.ts';
import { answerAfter, hasOthers } from './choose-machine.ts';
import { tellIfBlocked, withBlocked } from './blocked-by-session.ts';
import { suspendAfter } from './connection-suspension.ts';
import type { DispatchKeys } from './dispatch-key.ts';
import { MALFORMED, type MachineSender } from './machine-sender.ts';
import { CONNECTION, MACHINE, type Connection } from './records.ts';
import type { Repository } from './repository.ts';
import { appendEvent } from './run-events.ts';
import type { RunChanges } from './run-changes.ts';
import { membersIndex } from './run-indexes.ts';
import { RUN_INPUT, type Run, type RunInput } from './run-record.ts';
import type { RunFault } from './run-state.ts';
import { Draft } from './repository.ts';

const ANSWER_CHARS_MAX = 64 * 1024;

/** What became of an offer, for metrics and logs. */
export type OfferOutcome =
  | 'accepted'
  | 'refused'
  | 'unanswered'
  /** The run was not there to be offered any more, or has moved on while the machine was asked. */
  | 'overtaken';

/** Puts assigned runs before their machines, and does what their answers ask for. */
export class Offers {
  readonly #repository: Repository;
  readonly #changes: RunChanges;
  readonly #sender: MachineSender;
  readonly #keys: DispatchKeys;
  readonly #clock: Clock;

  constructor(of: {
    readonly repository: Repository;
    readonly changes: RunChanges;
    readonly sender: MachineSender;
    readonly keys: DispatchKeys;
    readonly clock: Clock;
  }) {
    this.#repository = of.repository;
    this.#changes = of.changes;
    this.#sender = of.sender;
    this.#keys = of.keys;
    this.#clock = of.clock;
  }

  /** Asks the machine that has the run's lease; settles when its answer has been written down. */
  async make(run: Run): Promise<OfferOutcome> {
    const { machineId } = run;
    if (run.state !== 'Assigned' || machineId === undefined) return 'overtaken';
    const input = await this.#repository.get(RUN_INPUT, run.id);
    const connection = await this.#repository.get(CONNECTION, run.connectionId);
    if (connection === undefined || input === undefined) {
      return this.#refused(run, machineId, { code: 'ConnectionDeleted' });
    }
    const machine = await this.#repository.get(MACHINE, machineId);
    const reuseSession = machine?.value.reuseSessions ?? false;
    const offer = offerOf(run, connection.value, input.value, reuseSession);
    const body = JSON.stringify(offer);
    const response = await this.#sender.send({
      environment: this.#repository.partition,
      machineId,
      path: `runs/${run.id}`,
      body,
      signature: await this.#keys.sign(body, audienceOf(this.#repository.partition, machineId)),
      timeoutMs: OFFER_ANSWER_MS,
    });
    if (response.type === 'fault') return this.#unanswered(run, machineId, response.code);
    const answer = parseAnswer(run, response.body);
    if (answer === undefined) return this.#unanswered(run, machineId, MALFORMED);
    return answer.type === 'accept'
      ? this.#accepted(run, machineId)
      : this.#refused(run, machineId, answer);
  }

  /** Tells a machine that a run of its is to end. Whether it hears it shows when it renews. */
  async sendCancel(run: Run): Promise<void> {
    const { machineId, cancel } = run;
    if (machineId === undefined || cancel === undefined) return;
    const message: Cancel = {
      v: 1,
      type: 'cancel',
      runId: run.id,
      mode: cancel.mode,
      graceSeconds: CANCEL_GRACE_SECONDS,
      by: cancel.by,
    };
    const body = JSON.stringify(message);
    await this.#sender.send({
      environment: this.#repository.partition,
      machineId,
      // The same cancel twice is one command.
      path: `commands/${run.id}-${run.fence}-${cancel.mode}`,
      body,
      signature: await this.#keys.sign(body, audienceOf(this.#repository.partition, machineId)),
      timeoutMs: OFFER_ANSWER_MS,
    });
  }

  async #accepted(run: Run, machineId: string): Promise<OfferOutcome> {
    // Only for people: the run moves on when the machine asks for the start.
    const { attempt } = run;
    await this.#repository.change(async () => {
      const draft = new Draft();
      appendEvent(draft, run.id, {
        atMs: this.#clock.wallMs(),
        type: 'preChecks',
        machineId,
        attempt,
      });
      return Promise.resolve({ draft, answer: undefined });
    });
    return 'accepted';
  }

  async #refused(
    run: Run,
    machineId: string,
    said: {
      readonly code: JobErrorCode;
      readonly message?: string | undefined;
      readonly retryAfterSeconds?: number | undefined;
    },
  ): Promise<OfferOutcome> {
    const fault: RunFault = { code: said.code, message: said.message };
    const members = await this.#members(run);
    const { transition } = await this.#changes.advance(
      run.id,
      current => ({
        type: 'refused',
        fence: run.fence,
        fault,
        hasOthers: hasOthers(current, machineId, said.code, members),
      }),
      {
        more: (after, before) =>
          withBlocked(
            this.#withAnswer(after, before, machineId, said),
            said.code,
            this.#clock.wallMs(),
          ),
        with: async (draft, after, before) => {
          tellIfBlocked(draft, this.#repository.partition, before, after);
          const nowMs = this.#clock.wallMs();
          await suspendAfter(draft, this.#repository, { ...after, machineId }, nowMs);
        },
        entry: () => ({ type: 'machineReturnedError', machineId, attempt: run.attempt, ...fault }),
      },
    );
    return transition.type === 'changed' ? 'refused' : 'overtaken';
  }

  async #unanswered(run: Run, machineId: string, code: JobErrorCode): Promise<OfferOutcome> {
    const { fence, attempt } = run;
    const { transition } = await this.#changes.advance(
      run.id,
      { type: 'unanswered', fence, fault: { code } },
      {
        more: (after, before) => this.#withAnswer(after, before, machineId, { code }),
        entry: () => ({ type: 'machineReturnedError', machineId, attempt, code }),
      },
    );
    return transition.type === 'changed' ? 'unanswered' : 'overtaken';
  }

  #withAnswer(
    after: Run,
    before: Run,
    machineId: string,
    said: Parameters<typeof answerAfter>[1],
  ): Run {
    const known = before.answers[machineId];
    const answer = answerAfter(known, said, before, this.#clock.wallMs());
    return { ...after, answers: { ...after.answers, [machineId]: answer } };
  }

  async #members({ target }: Run): Promise<readonly string[]> {
    if (target.kind === 'machine') return [target.id];
    const entries = await this.#repository.range(membersIndex(target.id), { limit: 1_000 });
    return entries.map(({ member }) => member);
  }
}

/** What a signature names as the one that it is for: the machine's path in the relay. */
export function audienceOf(environment: string, machineId: string): string {
  return `${environment}/m/${machineId}`;
}

function offerOf(run: Run, connection: Connection, input: RunInput, reuseSession: boolean): Offer {
  return {
    v: 1,
    type: 'offer',
    runId: run.id,
    attempt: run.attempt,
    fence: run.fence,
    deadline: formatMoment(run.leaseUntilMs ?? 0),
    mode: run.mode,
    job: input.job,
    connection: {
      id: connection.id,
      version: connection.credentialVersion,
      targetKind: connection.target.kind,
      targetId: connection.target.id,
    },
    ...(connection.envelope === undefined ? {} : { credential: connection.envelope }),
    inputs: input.inputs,
    sealedInputs: input.sealedInputs,
    limits: {
      runSeconds: run.runSeconds,
      logBytes: LOG_BYTES_MAX,
      chunkBytes: LOG_CHUNK_BYTES_MAX,
      outputBytes: OUTPUT_BYTES_MAX,
    },
    options: { reuseSession },
    ...(run.traceparent === undefined ? {} : { trace: { traceparent: run.traceparent } }),
  };
}

/** An answer to this very attempt; the status is the transport's and says nothing more. */
function parseAnswer(run: Run, text: string): OfferAnswer | undefined {
  if (text.length > ANSWER_CHARS_MAX) return undefined;
  const parsed = parseMessage(offerAnswerSchema, text);
  if (!('message' in parsed)) return undefined;
  const { runId, attempt, fence } = parsed.message;
  const isTheirs = runId === run.id && attempt === run.attempt && fence === run.fence;
  return isTheirs ? parsed.message : undefined;
}
