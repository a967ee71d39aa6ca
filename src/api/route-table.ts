import * as v from 'valibot';
import { environmentIdSchema, idSchema, principalSchema } from '../dispatch/records.ts';
import { percentDecode } from '../protocol/uri-text.ts';
import type { Operation } from './operation.ts';

/** Where everything is. */
export const API_PREFIX = '/$api/v1';

/** What may stand for each `{name}` of a path. What does not fit names nothing. */
export const PARAMETERS: Readonly<Record<string, v.GenericSchema<string>>> = {
  env: environmentIdSchema,
  id: idSchema,
  machineId: idSchema,
  principal: principalSchema,
  attempt: v.pipe(v.string(), v.regex(/^[1-9]\d{0,8}$/)),
};

interface Route {
  readonly operation: Operation;
  readonly segments: readonly RegExp[];
}

export type Match =
  | { readonly type: 'found'; readonly operation: Operation; readonly params: Params }
  /** Nothing has this path. */
  | { readonly type: 'unknown' }
  /** It is there, but does not take the method; sorted, with HEAD and OPTIONS. */
  | { readonly type: 'other-methods'; readonly methods: readonly string[] };

type Params = Readonly<Record<string, string>>;

/** Finds the operation of a request. Throws a RangeError for a table that it cannot work with. */
export class RouteTable {
  readonly #routes: readonly Route[];

  constructor(operations: readonly Operation[]) {
    this.#routes = operations.map(operation => ({
      operation,
      segments: operation.path.slice(1).split('/').map(segmentPattern),
    }));
  }

  get operations(): readonly Operation[] {
    return this.#routes.map(({ operation }) => operation);
  }

  /** HEAD is answered as GET. `path`: raw, with the prefix. */
  match(method: string, path: string): Match {
    const segments = segmentsOf(path);
    if (segments === undefined) return { type: 'unknown' };
    const wanted = method === 'HEAD' ? 'GET' : method;
    const methods = new Set<string>();
    for (const { operation, segments: patterns } of this.#routes) {
      const params = paramsOf(patterns, segments);
      if (params === undefined) continue;
      if (operation.method === wanted || operation.method === 'ANY') {
        return { type: 'found', operation, params };
      }
      methods.add(operation.method);
    }
    if (methods.size === 0) return { type: 'unknown' };
    if (methods.has('GET')) methods.add('HEAD');
    methods.add('OPTIONS');
    return { type: 'other-methods', methods: [...methods].toSorted() };
  }
}

/** The names in a path, in order. */
export function parameterNames(path: string): readonly string[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name);
}

/** `{id}:drain`: no name of ours has a colon but those of principals. */
function segmentPattern(segment: string): RegExp {
  const source = segment.replaceAll(/\{(\w+)\}|[^{}]+/g, (text, name: string | undefined) => {
    if (name === undefined) return text.replaceAll(/[.$]/g, '\\$&');
    if (PARAMETERS[name] === undefined) throw new RangeError(`nothing is known of {${name}}`);
    return name === 'principal' ? `(?<${name}>[^/]+)` : `(?<${name}>[^/:]+)`;
  });
  return new RegExp(`^${source}$`, 'u');
}

/** Decoded once, behind the prefix. Undefined for what leads nowhere: empty and dot segments, broken escapes. */
function segmentsOf(path: string): readonly string[] | undefined {
  if (!path.startsWith(`${API_PREFIX}/`)) return undefined;
  const segments: string[] = [];
  for (const raw of path.slice(API_PREFIX.length + 1).split('/')) {
    const segment = percentDecode(raw);
    if (segment === undefined || segment === '' || segment === '.' || segment === '..') {
      return undefined;
    }
    segments.push(segment);
  }
  return segments;
}

function paramsOf(patterns: readonly RegExp[], segments: readonly string[]): Params | undefined {
  if (patterns.length !== segments.length) return undefined;
  const params: Record<string, string> = {};
  for (const [at, pattern] of patterns.entries()) {
    const found = pattern.exec(segments[at] ?? '');
    if (found === null) return undefined;
    for (const [name, text] of Object.entries(found.groups ?? {})) {
      const schema = PARAMETERS[name];
      if (schema === undefined || !v.is(schema, text)) return undefined;
      params[name] = text;
    }
  }
  return params;
}
