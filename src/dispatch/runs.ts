import type { Clock } from '../base/clock.ts';
import { WAITING_RUNS_MAX } from '../jobs/limits.ts';
import { callerIn, requireIn, requireMay, type Caller, type Principal } from './access.ts';
import { newId } from './checks.ts';
import { countRun } from './connection-rate.ts';
import { repetitionOf } from './idempotency.ts';
import { pageOf, type Page, type PageQuery } from './paging.ts';
import { Problem } from './problem.ts';
import {
  CONNECTION,
  GROUP,
  MACHINE,
  type Connection,
  type Environment,
  type Target,
} from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import { appendEvent } from './run-events.ts';
import {
  membersIndex,
  moveInIndexes,
  queueIndex,
  RUNS_INDEX,
  runsOfIndex,
  stateIndex,
} from './run-indexes.ts';
import { readOutput } from './run-outputs.ts';
import { RUN, RUN_INPUT, type Run, type RunInput } from './run-record.ts';
import { parseRunRequest, queueSecondsOf, type RunRequest } from './run-request.ts';
import type { RunState } from './run-state.ts';

export interface RunQuery extends PageQuery {
  /** One of these chooses the order's index, the others leave out. */
  readonly state?: RunState | undefined;
  readonly connectionId?: string | undefined;
  readonly machineId?: string | undefined;
  readonly groupId?: string | undefined;
  readonly owner?: string | undefined;
}

export interface Submission {
  readonly body: unknown;
  /** `Idempotency-Key`. */
  readonly key?: string | undefined;
  /** Whose keys these are; undefined: the caller's. */
  readonly keyOf?: string | undefined;
  /** `api`, `portal`, `schedule`, `webhook`, `test`; shown. */
  readonly trigger: string;
  /** Of the target's group this member alone. */
  readonly onlyMachineId?: string | undefined;
  /** The header of this name (W3C Trace Context). One that is malformed is left out. */
  readonly traceparent?: string | undefined;
  /** Adds to the step that queues the run; may throw what forbids it. */
  readonly with?: ((draft: Draft, runId: string) => Promise<void>) | undefined;
}

export interface Submitted {
  readonly run: Versioned<Run>;
  readonly isRepeated: boolean;
}

/** Asking for runs and looking at them. What changes them later is in run-control.ts and run-reports.ts. */
export class Runs {
  readonly #repository: Repository;
  readonly #clock: Clock;
  readonly #principalNamed: (name: string) => Promise<Principal | undefined>;

  constructor(
    repository: Repository,
    clock: Clock,
    principalNamed: (name: string) => Promise<Principal | undefined>,
  ) {
    this.#repository = repository;
    this.#clock = clock;
    this.#principalNamed = principalNamed;
  }

  /**
   * Queues a run. It is there, durably, when this resolves. A repeated request (same key, same body) gives
   * the run that the first one made.
   */
  async submit(
    caller: Caller,
    environment: Environment,
    submission: Submission,
  ): Promise<Submitted> {
    requireIn(caller, 'run');
    const { body, key } = submission;
    const request = parseRunRequest(body);
    const id = request.id ?? newId();
    return this.#repository.change<Submitted>(async () => {
      const nowMs = this.#clock.wallMs();
      const about = { key, caller: submission.keyOf ?? caller.name, kind: 'run', body };
      const repetition = await repetitionOf(this.#repository, about, nowMs);
      if (repetition.resourceId !== undefined) {
        const run = await this.get(caller, repetition.resourceId);
        return { draft: new Draft(), answer: { run, isRepeated: true } };
      }
      const connection = await this.#usableConnection(caller, environment, request);
      await this.#checkParent(caller, request);
      const value = newRun({ ...request, id }, connection.value, { caller, submission, nowMs });
      const input: RunInput = {
        job: request.job,
        inputs: request.inputs,
        sealedInputs: request.sealedInputs,
      };
      const taken = new Problem('VersionConflict', 'there is a run of this id');
      const draft = new Draft()
        .create(RUN, id, value, taken)
        .create(RUN_INPUT, id, input, taken)
        .unchanged(CONNECTION, connection)
        .below(queueIndex(value.target), WAITING_RUNS_MAX, new Problem('QueueFull'));
      repetition.remember(draft, id);
      await countRun(draft, this.#repository, { connectionId: connection.id, runId: id, nowMs });
      moveInIndexes(draft, undefined, value);
      appendEvent(draft, id, { atMs: nowMs, type: 'queued', by: caller.name });
      await submission.with?.(draft, id);
      return { draft, answer: { run: { id, version: 1, value }, isRepeated: false } };
    });
  }

  async get(caller: Caller, id: string): Promise<Versioned<Run>> {
    requireIn(caller, 'view');
    const run = await this.#repository.get(RUN, id);
    if (run === undefined) throw new Problem('NotFound', 'there is no such run');
    return run;
  }

  async input(caller: Caller, id: string): Promise<RunInput> {
    requireIn(caller, 'view');
    const input = await this.#repository.get(RUN_INPUT, id);
    if (input === undefined) throw new Problem('NotFound', 'there is no such run');
    return input.value;
  }

  /** The outputs as JSON text; undefined while there are none. */
  async outputs(caller: Caller, id: string): Promise<string | undefined> {
    const { value } = await this.get(caller, id);
    return readOutput(this.#repository, value);
  }

  /** The latest first. */
  list(caller: Caller, query: RunQuery): Promise<Page<Run>> {
    requireIn(caller, 'view');
    const { state, connectionId, machineId, groupId, owner } = query;
    const from = { kind: RUN, index: indexFor(query), isDescending: true };
    return pageOf(
      this.#repository,
      from,
      query,
      run =>
        (state === undefined || run.state === state) &&
        (connectionId === undefined || run.connectionId === connectionId) &&
        (machineId === undefined || run.machineId === machineId || run.target.id === machineId) &&
        (groupId === undefined || run.target.id === groupId) &&
        (owner === undefined || run.owner === owner),
    );
  }

  /** Those that wait, in the order in which they come next. */
  queue(caller: Caller, target: Target, query: PageQuery): Promise<Page<Run>> {
    requireIn(caller, 'view');
    return pageOf(this.#repository, { kind: RUN, index: queueIndex(target) }, query);
  }

  async #usableConnection(
    caller: Caller,
    environment: Environment,
    request: RunRequest,
  ): Promise<Versioned<Connection>> {
    const connection = await this.#repository.get(CONNECTION, request.connectionId);
    if (connection === undefined) throw new Problem('ConnectionNotFound');
    const { value } = connection;
    requireMay(caller, 'use', value);
    if (request.mode === 'unattended' && value.kind === 'none') {
      throw new Problem('UnattendedUnsupportedWithOldConnection');
    }
    if (value.suspended !== undefined) {
      throw new Problem('SessionCreationInvalidCredentials', 'edit the connection first');
    }
    await this.#checkTarget(value, environment);
    return connection;
  }

  /** It is there, can take runs at all, and whoever the connection runs for may use it. */
  async #checkTarget(connection: Connection, environment: Environment): Promise<void> {
    const { kind, id } = connection.target;
    const target =
      kind === 'machine'
        ? await this.#repository.get(MACHINE, id)
        : await this.#repository.get(GROUP, id);
    if (target === undefined) {
      throw new Problem(kind === 'machine' ? 'MachineNotFound' : 'MachineGroupNotFound');
    }
    const principal = await this.#principalNamed(connection.runOwner);
    const runOwner = principal === undefined ? undefined : callerIn(environment, principal);
    if (runOwner === undefined) {
      throw new Problem(
        'AccessDenied',
        `${connection.runOwner}, whom the connection runs for, is gone`,
      );
    }
    requireMay(runOwner, 'use', target.value);
    if (kind === 'group' && (await this.#repository.count(membersIndex(id))) === 0) {
      throw new Problem('GroupIsEmpty');
    }
  }

  async #checkParent(caller: Caller, { parentRunId }: RunRequest): Promise<void> {
    if (parentRunId === undefined) return;
    const { value } = await this.get(caller, parentRunId);
    requireMay(caller, 'edit', { owner: value.owner, access: {} });
  }
}

function newRun(
  request: RunRequest & { readonly id: string },
  connection: Connection,
  by: { readonly caller: Caller; readonly submission: Submission; readonly nowMs: number },
): Run {
  const { job, inputs, sealedInputs } = request;
  const { trigger, onlyMachineId, traceparent } = by.submission;
  const queueSeconds = queueSecondsOf(request, connection.kind === 'none');
  return {
    id: request.id,
    state: 'Queued',
    attempt: 0,
    fence: 0,
    starts: 0,
    queuedAtMs: by.nowMs,
    onLost: request.onLost,
    maxAttempts: request.maxAttempts,
    owner: by.caller.name,
    connectionId: connection.id,
    target: connection.target,
    mode: request.mode,
    priority: request.priority,
    jobRef: job.ref,
    jobKind: job.kind,
    minAgentVersion: job.minAgentVersion,
    labels: request.labels,
    queueUntilMs: by.nowMs + queueSeconds * 1_000,
    runSeconds: request.timeoutSeconds,
    whenOffline: request.whenOffline,
    onlyMachineId,
    trigger,
    callbackUrl: request.callbackUrl,
    correlationId: request.correlationId,
    traceparent: isTraceparent(traceparent) ? traceparent : undefined,
    parentRunId: request.parentRunId,
    inputBytes: Buffer.byteLength(JSON.stringify([inputs, sealedInputs])),
    answers: {},
  };
}

/** Version, trace id, parent id, flags; ids of zeros alone are none. */
function isTraceparent(text: string | undefined): boolean {
  const form = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;
  return text !== undefined && form.test(text);
}

function indexFor({ state, connectionId, machineId, groupId }: RunQuery): string {
  if (connectionId !== undefined) return runsOfIndex('connection', connectionId);
  if (machineId !== undefined) return runsOfIndex('machine', machineId);
  if (groupId !== undefined) return runsOfIndex('group', groupId);
  return state === undefined ? RUNS_INDEX : stateIndex(state);
}
