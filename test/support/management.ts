import type { TestRelay } from './relay.ts';

/** What the management API answered. */
export interface ApiResponse {
  readonly status: number;
  readonly etag: string | undefined;
  /** The JSON of the body; undefined without one. */
  readonly body: unknown;
}

export interface ApiCall {
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Calls the management API of a node; `path` follows `/api/namespaces/tests`. */
export async function callApi(
  relay: Pick<TestRelay, 'adminUrl'>,
  method: string,
  path: string,
  { body, headers = {} }: ApiCall = {},
): Promise<ApiResponse> {
  const response = await fetch(`${relay.adminUrl}/api/namespaces/tests${path}`, {
    method,
    headers: { ...headers, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  return {
    status: response.status,
    etag: response.headers.get('etag') ?? undefined,
    body: text === '' ? undefined : JSON.parse(text),
  };
}

/** Makes a hybrid connection and fails loudly when it cannot. */
export async function createHybridConnection(
  relay: Pick<TestRelay, 'adminUrl'>,
  name: string,
  properties: object = {},
): Promise<void> {
  const path = `/hybridConnections/${encodeURIComponent(name)}`;
  const { status, body } = await callApi(relay, 'PUT', path, { body: { properties } });
  if (status !== 200 && status !== 201) throw new Error(`${status} ${JSON.stringify(body)}`);
}

/** A field of an answer, by its path. */
export function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  let found = value;
  for (const step of path) {
    if (typeof found !== 'object' || found === null) return undefined;
    found = new Map(Object.entries(found)).get(String(step));
  }
  return found;
}
