import type { Readable } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { exchange } from '../client/http-exchange.ts';
import { RelayError } from '../client/relay-error.ts';
import type { Routes } from '../client/routes.ts';
import * as v from 'valibot';
import { isJobErrorCode, JOB_ERRORS, type JobErrorCode } from '../jobs/error-codes.ts';
import { textOf } from './machine-error.ts';

/** One request to the control plane. */
export interface ControlCall {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Below `/$api/v1`, with a leading slash; its parts are encoded already. */
  readonly path: string;
  readonly token?: string | undefined;
  /** Sent as JSON. */
  readonly body?: object | undefined;
  /** Sent as it is, in place of `body`. */
  readonly bytes?: { readonly type: string; readonly data: Uint8Array; readonly encoding?: string };
  readonly ifMatch?: string | undefined;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ControlAnswer {
  readonly status: number;
  /** Parsed JSON; undefined without a body. */
  readonly body: unknown;
  readonly etag: string | undefined;
}

/** Why the control plane did not do it. The message is for people, and repeats no secret. */
export class ControlError extends Error {
  override readonly name = 'ControlError';
  /** `Unreachable`: no answer, or none of the control plane's; whether it was done is not known. */
  readonly code: JobErrorCode | 'Unreachable';
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(
    code: JobErrorCode | 'Unreachable',
    message: string,
    details: {
      readonly status?: number | undefined;
      readonly retryAfterMs?: number | undefined;
      readonly cause?: unknown;
    } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.status = details.status;
    this.retryAfterMs = details.retryAfterMs;
  }

  /** Whether the same request may be answered otherwise later, without anything being changed here. */
  get isTransient(): boolean {
    if (this.code === 'Unreachable') return true;
    return PASSING.has(this.code) || JOB_ERRORS[this.code].class !== 'terminal';
  }
}

/** Terminal for a run, and yet nothing that stays so. */
const PASSING: ReadonlySet<JobErrorCode> = new Set([
  'AuthTokenNotYetValid',
  'MachineIdentityConflict',
  'QuotaReached',
  'TokenInvalid',
  'VersionConflict',
]);

/** Of requests that may be sent again: too slow, too early, too many. */
const COMES_LATER: ReadonlySet<number> = new Set([408, 425, 429]);
const TIMEOUT_MS = 30_000;
/** More than any answer to a machine has. */
const ANSWER_BYTES_MAX = 4 * 1024 * 1024;
const BASE = '/$api/v1';

const problemSchema = v.object({
  code: v.string(),
  detail: v.optional(v.string()),
  title: v.optional(v.string()),
  trackingId: v.optional(v.string()),
  errors: v.optional(v.array(v.object({ path: v.string(), message: v.string() }))),
});

/** REST to the control plane, the way that `Routes` knows: proxies and authorities as for the relay. */
export class ControlClient {
  /** `http://host:port` or `https://host:port` */
  readonly origin: string;
  readonly #routes: Routes;
  readonly #clock: Clock;
  #skewMs: number | undefined;

  constructor(of: { readonly origin: string; readonly routes: Routes; readonly clock: Clock }) {
    this.origin = of.origin;
    this.#routes = of.routes;
    this.#clock = of.clock;
  }

  /**
   * How far this computer's clock is ahead of the control plane's, by the last answer; negative: behind.
   * Undefined before the first. To about a second: the header has whole ones.
   */
  get skewMs(): number | undefined {
    return this.#skewMs;
  }

  /** The control plane's wall clock, as far as it is known. */
  serverNowMs(): number {
    return this.#clock.wallMs() - (this.#skewMs ?? 0);
  }

  /** Rejects with `ControlError`; with the reason of `signal` when that is aborted. */
  async call(call: ControlCall): Promise<ControlAnswer> {
    const url = new URL(`${BASE}${call.path}`, this.origin);
    const askedAtMs = this.#clock.wallMs();
    try {
      const answer = await exchange(
        {
          url,
          method: call.method,
          headers: headersOf(call),
          body: bodyOf(call),
          timeoutMs: call.timeoutMs ?? TIMEOUT_MS,
          signal: call.signal,
        },
        { routes: this.#routes, clock: this.#clock },
      );
      const { status, headers } = answer;
      this.#measure(headers.date, askedAtMs);
      const text = await this.#textOf(answer.body);
      if (status >= 300) throw this.#refusal(status, text, headerNumber(headers['retry-after']));
      return { status, body: parsed(text), etag: headers.etag };
    } catch (error) {
      if (error instanceof ControlError) throw error;
      if (call.signal?.aborted === true) throw call.signal.reason;
      if (!(error instanceof RelayError)) throw unreachable(this.origin, textOf(error), error);
      throw this.#failure(error, askedAtMs);
    }
  }

  /** An answer of 400 and more comes as a `RelayError` that has it, or there was none. */
  #failure(error: RelayError, askedAtMs: number): ControlError {
    const { answer, status } = error;
    if (answer === undefined || status === undefined) {
      // The library's words name the relay's path, which is none here.
      const why = error.message.replace(/^Cannot .*? "[^"]*" at \S+: /, '');
      return unreachable(this.origin, why, error);
    }
    this.#measure(headerIn(answer.rawHeaders, 'date'), askedAtMs);
    const retryAfter = headerNumber(headerIn(answer.rawHeaders, 'retry-after'));
    return this.#refusal(status, answer.body, retryAfter);
  }

  #refusal(status: number, text: string, retryAfterSeconds: number | undefined): ControlError {
    const retryAfterMs = retryAfterSeconds === undefined ? undefined : retryAfterSeconds * 1_000;
    const problem = v.safeParse(problemSchema, parsed(text));
    if (!problem.success) {
      const why = `it answered ${status}, which is not an answer of the control plane; see that its address is right and that it has job dispatch`;
      return new ControlError('Unreachable', `Cannot reach ${this.origin}: ${why}`, {
        status,
        retryAfterMs,
      });
    }
    if (!isJobErrorCode(problem.output.code)) {
      const { code: foreign, detail = foreign, trackingId } = problem.output;
      const tracking = trackingId === undefined ? '' : ` [${trackingId}]`;
      // Of the frame around the domain: a method, a length, a failure of the server's own.
      const isFinal = status < 500 && !COMES_LATER.has(status);
      return new ControlError(
        isFinal ? 'RequestMalformed' : 'Unreachable',
        `The control plane at ${this.origin} answered ${status}: ${detail}${tracking}`,
        { status, retryAfterMs },
      );
    }
    const { detail, title, errors = [] } = problem.output;
    const { code } = problem.output;
    const faults = errors.map(({ path, message }) => `${path} ${message}`).join('; ');
    const said = detail ?? title ?? JOB_ERRORS[code].text;
    const message = faults === '' ? said : `${said} (${faults})`;
    const isAboutTime = code === 'AuthTokenNotYetValid' || code === 'TokenInvalid';
    const clocks = isAboutTime ? this.#clockWords() : '';
    return new ControlError(code, `${message}${clocks}`, { status, retryAfterMs });
  }

  #clockWords(): string {
    const skewMs = this.#skewMs ?? 0;
    if (Math.abs(skewMs) < SKEW_TOLD_MS) return '';
    return `; this computer's clock is ${skewText(skewMs)} the control plane's: set it, by NTP`;
  }

  #measure(date: string | undefined, askedAtMs: number): void {
    // oxlint-disable-next-line no-restricted-globals -- reads a text, asks no clock
    const theirMs = Date.parse(date ?? '');
    if (Number.isNaN(theirMs)) return;
    this.#skewMs = (askedAtMs + this.#clock.wallMs()) / 2 - theirMs;
  }

  async #textOf(body: Readable): Promise<string> {
    const chunks: Buffer[] = [];
    let size = 0;
    const cancel = this.#clock.after(TIMEOUT_MS, () =>
      body.destroy(new Error('the answer does not come to an end')),
    );
    try {
      for await (const chunk of body) {
        const bytes = Buffer.from(chunk);
        size += bytes.length;
        if (size > ANSWER_BYTES_MAX) {
          body.destroy();
          throw unreachable(this.origin, 'its answer is longer than any answer should be');
        }
        chunks.push(bytes);
      }
    } finally {
      cancel();
    }
    return Buffer.concat(chunks).toString('utf8');
  }
}

const SKEW_TOLD_MS = 60_000;

/** `2 min 5 s ahead of`, `10 s behind`. */
export function skewText(skewMs: number): string {
  const seconds = Math.round(Math.abs(skewMs) / 1_000);
  const [minutes, rest] = [Math.floor(seconds / 60), seconds % 60];
  const size = minutes === 0 ? `${rest} s` : `${minutes} min ${rest} s`;
  return `${size} ${skewMs > 0 ? 'ahead of' : 'behind'}`;
}

function headersOf({ token, body, bytes, ifMatch }: ControlCall): Record<string, string> {
  return {
    Accept: 'application/json',
    ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
    ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
    ...(bytes === undefined ? {} : { 'Content-Type': bytes.type }),
    ...(bytes?.encoding === undefined ? {} : { 'Content-Encoding': bytes.encoding }),
    ...(ifMatch === undefined ? {} : { 'If-Match': ifMatch }),
  };
}

function bodyOf({ body, bytes }: ControlCall): string | Uint8Array | undefined {
  return bytes?.data ?? (body === undefined ? undefined : JSON.stringify(body));
}

function unreachable(origin: string, why: string, cause?: unknown): ControlError {
  return new ControlError('Unreachable', `Cannot reach ${origin}: ${why}`, { cause });
}

function parsed(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    // Not the control plane's; its caller finds no code in it.
    return undefined;
  }
}

function headerIn(rawHeaders: readonly string[], name: string): string | undefined {
  const at = rawHeaders.findIndex((text, i) => i % 2 === 0 && text.toLowerCase() === name);
  return at === -1 ? undefined : rawHeaders[at + 1];
}

function headerNumber(text: string | undefined): number | undefined {
  const value = Number(text ?? 'none');
  return Number.isFinite(value) && value >= 0 ? value : undefined;
}
