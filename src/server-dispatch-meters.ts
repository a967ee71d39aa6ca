import type { ApiHandler } from './api/api-request.ts';
import type { Clock } from './base/clock.ts';
import { stateIndex } from './dispatch/run-indexes.ts';
import { RUN } from './dispatch/run-record.ts';
import { FINAL_STATES } from './dispatch/run-state.ts';
import { isJobErrorCode } from './jobs/error-codes.ts';
import { OTHER } from './observability/metrics.ts';
import type { Meter } from './relay/ports.ts';
import type { DispatchStore, Step } from './store/dispatch-store.ts';

/** The store, which counts runs that end: each by the step that ends it, so by one node alone. */
export function meteredStore(store: DispatchStore, meter: Meter): DispatchStore {
  return {
    shown: store.shown,
    isDurable: store.isDurable,
    isShared: store.isShared,
    get durability() {
      return store.durability;
    },
    get: (partition, key) => store.get(partition, key),
    getMany: (partition, keys) => store.getMany(partition, keys),
    range: (partition, index, query) => store.range(partition, index, query),
    count: (partition, index) => store.count(partition, index),
    score: (partition, index, member) => store.score(partition, index, member),
    log: (partition, log, query) => store.log(partition, log, query),
    async step(partition, step) {
      const outcome = await store.step(partition, step);
      if (outcome.type === 'done') countEnds(step, meter);
      return outcome;
    },
    watch: (onChange, onGap) => store.watch(onChange, onGap),
    close: () => store.close(),
  };
}

const FINAL_INDEXES = new Map([...FINAL_STATES].map(state => [stateIndex(state), state]));

function countEnds({ adds = [], puts = [] }: Step, meter: Meter): void {
  for (const { index, member } of adds) {
    const state = FINAL_INDEXES.get(index);
    if (state === undefined) continue;
    const text = puts.find(({ key }) => key.kind === RUN.name && key.id === member)?.text ?? '{}';
    meter.count('halfway_dispatch_runs_ended_total', { state, code: codeIn(text) });
    if (state === 'Lost') meter.count('halfway_dispatch_leases_lost_total', {});
  }
}

/** Codes come from machines, too: only those of the table become labels. */
function codeIn(runText: string): string {
  const run: unknown = JSON.parse(runText);
  const fault: unknown = fieldOf(run, 'fault');
  if (fault === undefined || fault === null) return '';
  const code = fieldOf(fault, 'code');
  return typeof code === 'string' && isJobErrorCode(code) ? code : OTHER;
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

/** What requests are about; paths with ids in them would be as many as there are records. */
const ROUTES: ReadonlySet<string> = new Set(
  (
    'me tokens users environments openapi.json endpoints echo hooks roles activation-codes machines groups ' +
    'connections runs schedules triggers audit agent'
  ).split(' '),
);
const PREFIX = '/$api/v1/';

export function routeOf(path: string): string {
  if (!path.startsWith(PREFIX)) return OTHER;
  const [first = '', , third] = path.slice(PREFIX.length).split('/');
  const about =
    (first === 'environments' && third !== undefined ? third : first).split(':')[0] ?? '';
  return ROUTES.has(about) ? about : OTHER;
}

/** Counts requests, and how long those take that wait for nothing. */
export function meteredApi(handle: ApiHandler, clock: Clock, meter: Meter): ApiHandler {
  return async request => {
    const route = routeOf(request.path);
    const startedAtMs = clock.nowMs();
    const response = await handle(request);
    const labels = { route, status: String(response.status) };
    meter.count('halfway_dispatch_api_requests_total', labels);
    if (!request.query.has('wait')) {
      const seconds = (clock.nowMs() - startedAtMs) / 1_000;
      meter.observe('halfway_dispatch_api_request_seconds', seconds, { route });
    }
    return response;
  };
}
