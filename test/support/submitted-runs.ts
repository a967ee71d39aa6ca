import { randomUUID } from 'node:crypto';
import type { RestCaller } from './relay-machine.ts';
import type { DiaryEntry, RunDiaries } from './run-diaries.ts';
import { below } from './seeded.ts';
import { within } from './within.ts';

const RUNS_PATH = '/environments/default/runs';
const ANSWER_MS = 10_000;
const AGAIN_MS = 200;
const LOOK_MS = 100;
/** What has not ended then may wait for a machine that was lost. */
const PATIENCE_MS = 20_000;
const JOB_SECONDS_MAX = 1;
/** So many outlast the death of their machine's service. */
const LONG_JOBS = 0.2;
const LONG_JOB_SECONDS_MAX = 8;
const ATTEMPTS_MAX = 3;
const EXIT_CODE = 3;
const LEFT_MAX = 5;
const FINAL: ReadonlySet<string> = new Set(['Succeeded', 'Failed', 'Lost']);

/** What was asked for. */
interface Wish {
  readonly exitCode: number;
  readonly onLost: 'fail' | 'requeue';
}

/** What the server says of a run. */
export interface SeenRun extends Wish {
  readonly id: string;
  readonly state: string;
  readonly isOver: boolean;
  readonly attempt: number;
  readonly exitCodeSaid: unknown;
  readonly code: unknown;
  readonly outputs: unknown;
  readonly log: string;
}

/** Submits runs until each is taken, whatever happens to requests and answers, and looks at what became of them. */
export class RunSubmitter {
  readonly #admin: RestCaller;
  readonly #random: () => number;
  readonly #diaries: RunDiaries;
  readonly #connections: readonly string[];
  readonly #wishes = new Map<string, Wish>();
  readonly #over = new Map<string, SeenRun>();
  #count = 0;
  #repeats = 0;

  constructor(
    admin: RestCaller,
    random: () => number,
    diaries: RunDiaries,
    connections: readonly string[],
  ) {
    this.#admin = admin;
    this.#random = random;
    this.#diaries = diaries;
    this.#connections = connections;
  }

  /** Runs that were asked for. */
  get count(): number {
    return this.#count;
  }

  /** Requests that were made again. */
  get repeats(): number {
    return this.#repeats;
  }

  /** Until its job has ended, or somebody has ended it, or for a while. */
  async submitAndWait(wasKilled: (runId: string) => boolean): Promise<void> {
    const id = await this.submit();
    for (let look = 0; look < PATIENCE_MS / LOOK_MS; look += 1) {
      if (wasKilled(id) || this.#diaries.of(id).some(({ ends }) => ends.length > 0)) return;
      await sleep(LOOK_MS);
    }
  }

  /** Returns the run's id. The same key each time: an answer that was lost has made a run, or has not. */
  async submit(): Promise<string> {
    this.#count += 1;
    const random = this.#random;
    const wish: Wish = {
      exitCode: random() < 0.15 ? EXIT_CODE : 0,
      onLost: random() < 0.3 ? 'requeue' : 'fail',
    };
    const seconds = random() * (random() < LONG_JOBS ? LONG_JOB_SECONDS_MAX : JOB_SECONDS_MAX);
    const body = {
      connectionId: this.#connections[below(random, this.#connections.length)],
      job: this.#diaries.job(seconds, wish.exitCode),
      onLost: wish.onLost,
      maxAttempts: wish.onLost === 'requeue' ? ATTEMPTS_MAX : 1,
    };
    const key = { 'idempotency-key': randomUUID() };
    if (random() < 0.1) await this.#loseAnswer(body, key);
    const id = await this.#post(body, key);
    // Whoever asks again is told of the same one.
    if (random() < 0.05 && (await this.#post(body, key)) !== id) throw new Error('It is another');
    this.#wishes.set(id, wish);
    return id;
  }

  async #post(body: object, key: Readonly<Record<string, string>>): Promise<string> {
    for (;;) {
      try {
        const asked = this.#admin.call('POST', RUNS_PATH, body, key);
        const answer = await within('an answer', asked, ANSWER_MS);
        if (answer.status === 202 || answer.status === 200) return String(answer.body['id']);
        const isPassing = answer.status >= 500 || answer.status === 429;
        if (!isPassing) throw new RefusedError(answer.status, JSON.stringify(answer.body));
      } catch (error) {
        if (error instanceof RefusedError) throw error;
      }
      this.#repeats += 1;
      await sleep(AGAIN_MS);
    }
  }

  /** Asks, and is gone before or after it was heard. */
  async #loseAnswer(body: object, key: Readonly<Record<string, string>>): Promise<void> {
    this.#repeats += 1;
    const asked = this.#admin.call('POST', RUNS_PATH, body, key);
    await within('an answer', asked, below(this.#random, 30)).catch(() => undefined);
    asked.catch(() => undefined);
  }

  /** All runs as the server has them now; without the logs, the last of which may come behind the result. */
  async look(): Promise<readonly SeenRun[]> {
    const seen: SeenRun[] = [];
    for (const [id, wish] of this.#wishes) {
      const run = this.#over.get(id) ?? (await this.#see(id, wish));
      seen.push(run);
      // What is lost may still be found.
      if (run.isOver && run.state !== 'Lost') this.#over.set(id, run);
    }
    return seen;
  }

  /** With their logs, which are whole when no machine has anything in hand. */
  async lookAtLogs(): Promise<readonly SeenRun[]> {
    const seen: SeenRun[] = [];
    for (const run of await this.look()) {
      seen.push({ ...run, log: await this.#logOf(`${RUNS_PATH}/${run.id}`) });
    }
    return seen;
  }

  /** For whoever looks for a fault: what is not over, and how machines and connections are. */
  async stateOfAll(): Promise<string> {
    const left = (await this.look()).filter(({ isOver }) => !isOver).slice(0, LEFT_MAX);
    const runs = await Promise.all(left.map(({ id }) => this.#get(`${RUNS_PATH}/${id}`)));
    const machines = await this.#get('/environments/default/machines');
    const connections = await this.#get('/environments/default/connections');
    return JSON.stringify({ runs, machines, connections });
  }

  /** How many runs there are, asked for or not. */
  async countAtServer(): Promise<number> {
    let count = 0;
    let after = '';
    for (;;) {
      const page = await this.#get(`${RUNS_PATH}?limit=100${after}`);
      const { items, next } = page;
      count += Array.isArray(items) ? items.length : 0;
      if (typeof next !== 'string') return count;
      after = `&after=${encodeURIComponent(next)}`;
    }
  }

  /** Servers that have just come back may not be known yet to what stands before them. */
  async #get(path: string): Promise<Readonly<Record<string, unknown>>> {
    for (;;) {
      const { status, body } = await within('it', this.#admin.call('GET', path), ANSWER_MS);
      if (status < 400) return body;
      if (status < 500) throw new RefusedError(status, JSON.stringify(body));
      await sleep(AGAIN_MS);
    }
  }

  async #see(id: string, wish: Wish): Promise<SeenRun> {
    const path = `${RUNS_PATH}/${id}`;
    const run = await this.#get(path);
    const state = String(run['state']);
    const isOver = FINAL.has(state);
    const { outputs } = isOver ? await this.#get(`${path}/outputs`) : {};
    return {
      id,
      ...wish,
      state,
      isOver,
      attempt: Number(run['attempt']),
      exitCodeSaid: run['exitCode'],
      code: Object(run['fault']).code,
      outputs,
      log: '',
    };
  }

  async #logOf(path: string): Promise<string> {
    const { items } = await this.#get(`${path}/logs?limit=16`);
    if (!Array.isArray(items)) return '';
    return items.map(({ data }) => Buffer.from(String(data), 'base64').toString()).join('');
  }
}

class RefusedError extends Error {
  constructor(status: number, text: string) {
    super(`It was refused: ${status} ${text}`);
    this.name = 'RefusedError';
  }
}

/**
 * What is not true of a run, by what its job wrote down. `wasKilled`: somebody killed an executor of this run, which
 * is the one thing that may keep a job from its end here.
 */
export function faultsOf(
  run: SeenRun,
  diary: readonly DiaryEntry[],
  wasKilled: boolean,
): readonly string[] {
  const { state, onLost, exitCode, attempt } = run;
  const last = diary.find(entry => entry.attempt === attempt);
  const [end] = last?.ends ?? [];
  const isAsWished = state === (exitCode === 0 ? 'Succeeded' : 'Failed');
  // Nobody may start it any more: what was to start it came back when the lease and its grace were over.
  const neverBegan = last === undefined && (state === 'Lost' || run.code === 'StartInterrupted');
  const hasResult = isAsWished && run.exitCodeSaid === exitCode;
  const checks: Readonly<Record<string, boolean>> = {
    'an attempt ran twice': diary.every(({ starts, ends }) => starts === 1 && ends.length <= 1),
    'it ran more than once': diary.length <= (onLost === 'requeue' ? ATTEMPTS_MAX : 1),
    'it is not over': run.isOver,
    'it has a result without an end': !hasResult || end === exitCode,
    'its result was lost': wasKilled || neverBegan || (end === exitCode && hasResult),
    'it succeeded and did not': state !== 'Succeeded' || (end === 0 && exitCode === 0),
    'its outputs are not those of its end': !hasResult || Object(run.outputs).attempt === attempt,
    'its log is not its own': !hasResult || run.log.includes(`attempt ${attempt}\n`),
  };
  const about = JSON.stringify({ ...run, diary, wasKilled });
  return Object.entries(checks).flatMap(([fault, isRight]) =>
    isRight ? [] : [`${fault}: ${about}`],
  );
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => void setTimeout(resolve, ms));
}
