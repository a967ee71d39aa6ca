import * as v from 'valibot';
import { assert } from '../base/assert.ts';
import type { ControlPlane } from '../dispatch/control-plane.ts';
import { Problem, type FieldFault } from '../dispatch/problem.ts';
import type { Repository } from '../dispatch/repository.ts';
import type { JobErrorCode } from '../jobs/error-codes.ts';
import type { ApiRequest } from './api-request.ts';
import type { Identity } from './authentication.ts';
import { bytesOf, hasBody, jsonOf } from './bodies.ts';
import type { ChangeWaits } from './change-waits.ts';
import type { MachineEcho, PublicInfo } from './ports.ts';
import { checked, idempotencyKeyOf, ifMatchOf, queryOf } from './request-fields.ts';

// One operation of the REST interface as data and one function. The table of them all is what requests are
// matched against, and what the OpenAPI document is made of, so neither can say something else.

/** Whose token is asked for. `anyone`: a token is not needed; whoever sends one is known by it. */
export type Who = 'nobody' | 'anyone' | 'person' | 'machine' | 'either';

/** What operations work with. */
export interface ApiContext {
  readonly plane: ControlPlane;
  /** Records that are beside all environments. */
  readonly common: Repository;
  readonly waits: ChangeWaits;
  readonly publicInfo: (host: string) => PublicInfo | Promise<PublicInfo>;
  readonly echo: MachineEcho;
  readonly openApi: () => string;
  readonly wallMs: () => number;
}

/** A request that was read and checked. */
export interface Call<Query, Body> {
  readonly params: Readonly<Record<string, string>>;
  readonly query: Query;
  readonly body: Body;
  /** The body as it was sent: what was signed, and what a repetition is compared with. */
  readonly json: unknown;
  readonly ifMatch: number | undefined;
  readonly idempotencyKey: string | undefined;
  readonly identity: Identity;
  readonly request: ApiRequest;
}

export interface Answer {
  readonly status: number;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it is, in place of JSON. */
  readonly content?: {
    readonly type: string;
    readonly body: string | Uint8Array | AsyncIterable<Uint8Array>;
  };
  /** Of the record: `ETag`. */
  readonly version?: number;
  readonly location?: string;
}

/** `json`: checked by the schema; `bytes`: `application/octet-stream`, perhaps gzip; `any`: whatever it is. */
export type BodyKind = 'json' | 'bytes' | 'any';

export interface BodySpec<Body> {
  readonly kind: BodyKind;
  readonly schema: v.GenericSchema<unknown, Body>;
  readonly bytesMax: number;
  /** Absent: `{}` or nothing is taken for it. */
  readonly isOptional?: boolean;
  /** Called before the schema has its say; throws. */
  readonly refuse?: (json: unknown) => void;
}

/** One kind of good answer. */
export interface AnswerSpec {
  readonly status: number;
  readonly text: string;
  /** Of a JSON body; undefined: there is none. */
  readonly schema?: v.GenericSchema;
  /** Of a body that is no JSON. */
  readonly contentType?: string;
  readonly hasEtag?: boolean;
  readonly hasLocation?: boolean;
}

export interface OperationSpec<Query, Body> {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'ANY';
  /** Behind `/$api/v1`: `/environments/{env}/machines/{id}:drain`. */
  readonly path: string;
  readonly who: Who;
  readonly tag: string;
  readonly summary: string;
  readonly query?: v.GenericSchema<unknown, Query>;
  readonly body?: BodySpec<Body>;
  readonly ifMatch?: 'required' | 'optional';
  readonly isRepeatable?: boolean;
  /** Further headers that it reads itself. */
  readonly headers?: readonly string[];
  readonly answers: readonly AnswerSpec[];
  /** What it says no with, beside what every operation of its kind does. */
  readonly problems?: readonly JobErrorCode[];
  readonly answer: (api: ApiContext, call: Call<Query, Body>) => Promise<Answer>;
}

/** An operation whatever its types. */
export interface Operation extends Omit<OperationSpec<unknown, unknown>, 'answer'> {
  /** Reads and checks what the request says, then answers it. Throws what refuses it. */
  readonly run: (
    api: ApiContext,
    request: ApiRequest,
    about: { readonly params: Readonly<Record<string, string>>; readonly identity: Identity },
  ) => Promise<Answer>;
}

export function operation<Query = Record<string, never>, Body = undefined>(
  spec: OperationSpec<Query, Body>,
): Operation {
  const { answer, ...rest } = spec;
  return {
    ...rest,
    async run(api, request, about) {
      const faults: FieldFault[] = [];
      const ifMatch = spec.ifMatch === undefined ? undefined : ifMatchOf(request, faults);
      const idempotencyKey = idempotencyKeyOf(request, faults);
      const query = queryOf<unknown>(spec.query ?? NO_QUERY, request, faults);
      const sent = await sentBody(spec.body, request);
      const body = spec.body === undefined ? undefined : bodyOf(spec.body, sent, faults);
      if (faults.length > 0) throw new Problem('RequestMalformed', undefined, { errors: faults });
      if (spec.ifMatch === 'required' && ifMatch === undefined) {
        throw new Problem('PreconditionRequired');
      }
      const isRead = isTaken(spec.query, query) && isTaken(spec.body?.schema, body);
      assert(isRead, 'what has no faults was read');
      return answer(api, {
        ...about,
        query,
        body,
        json: sent,
        ifMatch,
        idempotencyKey,
        request,
      });
    },
  };
}

const NO_QUERY = v.strictObject({});

/** Whether this is what the schema gave. Where there is no schema nobody looks at it. */
function isTaken<Value>(
  schema: v.GenericSchema<unknown, Value> | undefined,
  value: unknown,
): value is Value {
  return schema === undefined || value !== undefined;
}

async function sentBody(
  spec: BodySpec<unknown> | undefined,
  request: ApiRequest,
): Promise<unknown> {
  if (spec === undefined) {
    if (hasBody(request)) {
      const errors = [{ path: '', message: 'a body is not expected' }];
      throw new Problem('RequestMalformed', undefined, { errors });
    }
    return undefined;
  }
  return spec.kind === 'json'
    ? jsonOf(request, spec.bytesMax)
    : bytesOf(request, spec.bytesMax, spec.kind);
}

function bodyOf<Body>(
  { kind, schema, isOptional, refuse }: BodySpec<Body>,
  sent: unknown,
  faults: FieldFault[],
): Body | undefined {
  refuse?.(sent);
  if (sent === undefined && isOptional !== true) {
    faults.push({ path: '', message: 'a JSON body is needed' });
    return undefined;
  }
  // To the schema a list would do for an object with nothing but optional members.
  const isObject = typeof sent === 'object' && sent !== null && !Array.isArray(sent);
  if (kind === 'json' && sent !== undefined && !isObject) {
    faults.push({ path: '', message: 'must be a JSON object' });
    return undefined;
  }
  return checked(schema, sent ?? {}, '', faults);
}
