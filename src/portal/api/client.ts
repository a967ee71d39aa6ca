import * as v from 'valibot';
import { DispatchError } from '../../dispatch-client/dispatch-error.ts';
import { problemOf, unreachable } from './problem.ts';

type Schema<Value> = v.GenericSchema<unknown, Value>;
export type Query = Readonly<Record<string, string | number | undefined>>;

export interface Change {
  readonly body?: unknown;
  /** `version` of the record that the change is meant for. */
  readonly ifMatch?: number;
  /** Asking again with the same key makes nothing twice. */
  readonly idempotencyKey?: string;
}

const BASE = new URL('../$api/v1', document.baseURI).href;

/** The REST API as one person sees it. Every answer is checked against the schema that the caller gives. */
export class Api {
  readonly #token: string;
  readonly #onRefusedToken: () => void;

  /** `onRefusedToken`: the token is not, or no longer, good. */
  constructor(token: string, onRefusedToken: () => void) {
    this.#token = token;
    this.#onRefusedToken = onRefusedToken;
  }

  async get<Value>(
    schema: Schema<Value>,
    path: string,
    options: { readonly query?: Query; readonly signal?: AbortSignal } = {},
  ): Promise<Value> {
    const { query = {}, signal } = options;
    const response = await this.#send(
      path + queryText(query),
      signal === undefined ? {} : { signal },
    );
    return parsed(schema, await response.text());
  }

  /** POST, PUT, PATCH or DELETE. */
  async change<Value>(
    schema: Schema<Value>,
    method: string,
    path: string,
    change: Change = {},
  ): Promise<Value> {
    const response = await this.#change(method, path, change);
    return parsed(schema, await response.text());
  }

  /** As `change`, where nothing of the answer matters. */
  async act(method: string, path: string, change: Change = {}): Promise<void> {
    await this.#change(method, path, change);
  }

  /** A whole body as text, such as a log. */
  async text(path: string, signal?: AbortSignal): Promise<string> {
    const response = await this.#send(path, {
      headers: { Accept: 'text/plain' },
      ...(signal === undefined ? {} : { signal }),
    });
    return response.text();
  }

  #change(method: string, path: string, { body, ifMatch, idempotencyKey }: Change) {
    const headers = new Headers();
    if (body !== undefined) headers.set('Content-Type', 'application/json');
    if (ifMatch !== undefined) headers.set('If-Match', `"${ifMatch}"`);
    if (idempotencyKey !== undefined) headers.set('Idempotency-Key', idempotencyKey);
    return this.#send(path, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }

  async #send(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set('Authorization', `Bearer ${this.#token}`);
    let response: Response;
    try {
      response = await fetch(BASE + path, { ...init, headers, cache: 'no-store' });
    } catch (error) {
      if (init.signal?.aborted === true) throw error;
      throw unreachable();
    }
    if (response.ok) return response;
    const problem = problemOf(response.status, await response.text());
    if (problem.code === 'TokenInvalid') this.#onRefusedToken();
    throw problem;
  }
}

function queryText(query: Query): string {
  const given = Object.entries(query).flatMap(([name, value]) =>
    value === undefined || value === '' ? [] : [[name, String(value)]],
  );
  return given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`;
}

function parsed<Value>(schema: Schema<Value>, text: string): Value {
  const result = v.safeParse(schema, text === '' ? undefined : JSON.parse(text));
  if (result.success) return result.output;
  const where = result.issues.map(issue => v.getDotPath(issue) ?? '').join(', ');
  throw new DispatchError(
    'AnswerUnreadable',
    `The answer of the server is not understood (${where}): reload this page`,
  );
}
