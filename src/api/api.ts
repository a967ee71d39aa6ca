import { randomUUID } from 'node:crypto';
import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { ControlPlane } from '../dispatch/control-plane.ts';
import { Problem } from '../dispatch/problem.ts';
import { COMMON_PARTITION } from '../dispatch/records.ts';
import { Repository } from '../dispatch/repository.ts';
import type { DispatchStore } from '../store/dispatch-store.ts';
import { FrameError, refusalOf, refusalResponse } from './api-error.ts';
import type { ApiHandler, ApiRequest, ApiResponse } from './api-request.ts';
import { identityOf, type Identity } from './authentication.ts';
import { ChangeWaits } from './change-waits.ts';
import { openApiDocument } from './openapi.ts';
import type { Answer, ApiContext, Operation } from './operation.ts';
import { OPERATIONS } from './operations.ts';
import type { MachineEcho, PublicInfo } from './ports.ts';
import { API_PREFIX, RouteTable } from './route-table.ts';

export interface ApiParts {
  readonly controlPlane: ControlPlane;
  /** The one that the control plane works on: long polls watch it. */
  readonly store: DispatchStore;
  readonly clock: Clock;
  readonly log: Logger;
  /** For `GET /endpoints`. `host`: as the request's `Host` has it. */
  readonly publicInfo: (host: string) => PublicInfo | Promise<PublicInfo>;
  readonly echo: MachineEcho;
  /** Of this program, for the OpenAPI document. */
  readonly version: string;
}

export interface Api {
  readonly handle: ApiHandler;
  /** Requests that are held now. */
  readonly waiting: number;
  /** Answers all requests that are held; safe to call twice. */
  close(): void;
}

/** `hello` is a sign of life by itself. */
const HELLO = /\/agent\/hello$/;

/** The REST interface of job dispatch: from a request to its answer, whatever happens. */
export function createApi(parts: ApiParts): Api {
  const { controlPlane: plane, store, clock, log, publicInfo, echo } = parts;
  const table = new RouteTable(OPERATIONS);
  const waits = new ChangeWaits(store, clock);
  let document: string | undefined;
  const context: ApiContext = {
    plane,
    common: new Repository(store, COMMON_PARTITION),
    waits,
    publicInfo,
    echo,
    openApi: () => (document ??= JSON.stringify(openApiDocument(OPERATIONS, parts.version))),
    wallMs: () => clock.wallMs(),
  };

  const answer = async (request: ApiRequest): Promise<ApiResponse> => {
    const match = table.match(request.method, request.path);
    if (match.type === 'unknown') throw new Problem('NotFound', `see ${API_PREFIX}/openapi.json`);
    if (match.type === 'other-methods') {
      const Allow = match.methods.join(', ');
      if (request.method === 'OPTIONS') return { status: 204, headers: { Allow } };
      throw new FrameError('MethodNotAllowed', undefined, { Allow });
    }
    const { operation, params } = match;
    const identity = await identityOf(plane, request, operation.who);
    if (identity.type === 'machine' && !HELLO.test(operation.path)) {
      await signal(plane, identity);
    }
    return responseOf(await operation.run(context, request, { params, identity }));
  };

  const handle: ApiHandler = async request => {
    try {
      return await answer(request);
    } catch (error) {
      const refusal = refusalOf(error);
      const trackingId = randomUUID();
      // Neither headers nor bodies: both hold secrets. Of the path what a pattern says is enough.
      if (refusal.isOurs) {
        const { method, path } = request;
        const about = {
          err: loggable(error),
          trackingId,
          method,
          operation: patternOf(table, method, path),
        };
        if (refusal.status === 503) log.warn(about, 'request refused: the store is away');
        else log.error(about, 'request failed');
      }
      return refusalResponse(refusal, trackingId);
    }
  };

  return {
    handle,
    get waiting() {
      return waits.count;
    },
    close: () => waits.close(),
  };
}

/** Somebody else's sign of life at the same moment is as good. */
async function signal(
  plane: ControlPlane,
  { environment, machineId }: Extract<Identity, { type: 'machine' }>,
): Promise<void> {
  try {
    await plane.in(environment).presence.heard(machineId);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
  }
}

/** Valibot's errors hold the values that they are about, which may be somebody's inputs. */
function loggable(error: unknown): unknown {
  if (!v.isValiError(error)) return error;
  const paths = error.issues.map(issue => v.getDotPath(issue) ?? '(all)').join(', ');
  const bare = new Error(`What was kept is not of its form: ${paths}`);
  bare.stack = `${bare.message}\n${(error.stack ?? '').split('\n').filter(isFrame).join('\n')}`;
  return bare;
}

function isFrame(line: string): boolean {
  return /^\s+at /.test(line);
}

function responseOf({ status, body, content, version, location }: Answer): ApiResponse {
  const headers = {
    ...(version === undefined ? {} : { ETag: `"${version}"` }),
    ...(location === undefined ? {} : { Location: `${API_PREFIX}${location}` }),
  };
  if (content !== undefined) {
    return { status, headers: { ...headers, 'Content-Type': content.type }, body: content.body };
  }
  if (body === undefined) return { status, headers };
  const type = { 'Content-Type': 'application/json' };
  return { status, headers: { ...headers, ...type }, body: JSON.stringify(body) };
}

function patternOf(table: RouteTable, method: string, path: string): Operation['path'] {
  const match = table.match(method, path);
  return match.type === 'found' ? match.operation.path : '(none)';
}
