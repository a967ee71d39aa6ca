import { randomUUID } from 'node:crypto';
import * as v from 'valibot';
import type { ApiCall } from './api-exchange.ts';
import { DispatchError } from './dispatch-error.ts';

/** Calls the REST interface; the answer's body. */
export type CallApi = (method: string, path: string, call?: ApiCall) => Promise<unknown>;

export type Query = Readonly<Record<string, string | number | undefined>>;

export interface RecordPage<Item> {
  readonly items: readonly Item[];
  /** To give as `after`; undefined: this was the last page. */
  readonly next: string | undefined;
}

export interface Creation {
  /** Requests with the same key and body make one record; random unless it is given. */
  readonly idempotencyKey?: string | undefined;
}

/** As many as the server gives at once. */
const PAGE_LIMIT = 200;

/** All records of one kind: `machines`, `connections`. Every method rejects with a `DispatchError`. */
export class RecordCollection<Item extends object> {
  readonly #call: CallApi;
  readonly #path: string;
  readonly #schema: v.GenericSchema<unknown, Item>;
  readonly #isRepeatable: boolean;

  /** `isRepeatable`: the server takes idempotency keys for these; where it does not, nothing is tried twice. */
  constructor(
    call: CallApi,
    path: string,
    schema: v.GenericSchema<unknown, Item>,
    isRepeatable = true,
  ) {
    this.#call = call;
    this.#path = path;
    this.#schema = schema;
    this.#isRepeatable = isRepeatable;
  }

  async page(query: Query = {}): Promise<RecordPage<Item>> {
    const schema = v.looseObject({
      items: v.array(this.#schema),
      next: v.optional(v.union([v.string(), v.number()])),
    });
    const { items, next } = readAnswer(schema, await this.#call('GET', this.#path, { query }));
    return { items, next: next === undefined ? undefined : String(next) };
  }

  /** Page by page, until nobody asks for more. */
  async *all(query: Query = {}): AsyncGenerator<Item> {
    let after: string | undefined;
    do {
      const page: RecordPage<Item> = await this.page({ limit: PAGE_LIMIT, ...query, after });
      yield* page.items;
      after = page.next;
    } while (after !== undefined);
  }

  /** All at once, for where they are known to be few. */
  async list(query: Query = {}): Promise<readonly Item[]> {
    const found: Item[] = [];
    for await (const record of this.all(query)) found.push(record);
    return found;
  }

  async get(id: string): Promise<Item> {
    return readAnswer(this.#schema, await this.#call('GET', this.pathOf(id)));
  }

  async create(body: object, { idempotencyKey = randomUUID() }: Creation = {}): Promise<Item> {
    const call = this.#isRepeatable ? { body, idempotencyKey } : { body };
    return readAnswer(this.#schema, await this.#call('POST', this.#path, call));
  }

  /** `version` is that of the record which was read: if it was changed since then, nothing is. */
  async patch(id: string, changes: object, version?: number): Promise<Item> {
    const call = { body: changes, ifMatch: version };
    return readAnswer(this.#schema, await this.#call('PATCH', this.pathOf(id), call));
  }

  async delete(id: string, version?: number): Promise<void> {
    await this.#call('DELETE', this.pathOf(id), { ifMatch: version });
  }

  /** Gives a principal (`user:ann`) a right on one record; undefined takes it away. */
  async setAccess(id: string, principal: string, grant: string | undefined): Promise<void> {
    const path = `${this.pathOf(id)}/access/${encodeURIComponent(principal)}`;
    if (grant === undefined) await this.#call('DELETE', path);
    else await this.#call('PUT', path, { body: { grant } });
  }

  /** POST `…/{id}:{verb}`; the answer's body, if it has one. */
  act(id: string, verb: string, body?: object): Promise<unknown> {
    return this.#call('POST', `${this.pathOf(id)}:${verb}`, body === undefined ? {} : { body });
  }

  pathOf(id: string): string {
    return `${this.#path}/${encodeURIComponent(id)}`;
  }
}

/** What was answered, as the schema has it. Throws `AnswerUnreadable`. */
export function readAnswer<Value>(schema: v.GenericSchema<unknown, Value>, body: unknown): Value {
  const parsed = v.safeParse(schema, body);
  if (parsed.success) return parsed.output;
  const where = parsed.issues.map(issue => v.getDotPath(issue) ?? '(all of it)').join(', ');
  throw new DispatchError(
    'AnswerUnreadable',
    `The answer cannot be read (${where}): the server is of another version`,
  );
}
