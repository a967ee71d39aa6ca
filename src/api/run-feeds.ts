import * as v from 'valibot';
import type { EnvironmentServices } from '../dispatch/control-plane.ts';
import {
  eventsLog,
  readEvents,
  runEventSchema,
  type RunEventEntry,
} from '../dispatch/run-events.ts';
import { runLogName } from '../dispatch/run-logs.ts';
import { progressLog } from '../dispatch/run-reports.ts';
import { RUN } from '../dispatch/run-record.ts';
import { FINAL_STATES } from '../dispatch/run-state.ts';
import { operation, type ApiContext, type Call, type Operation } from './operation.ts';
import { numberParameter } from './request-fields.ts';
import { param, personIn } from './scope.ts';
import { shownEntries, showValue } from './shown.ts';

// What goes on in a run, as three feeds that are read alike: entries behind a number, and a request that is
// held until there is one. Whoever reads on from `next` until `isOver` has seen all.

/** Longest time that a request is held: below what proxies on the way usually allow. */
export const WAIT_SECONDS_MAX = 25;
const EVENTS_AT_A_TIME = 200;
/** Chunks have up to 256 KiB each. */
const CHUNKS_AT_A_TIME = 16;
const PATH = '/environments/{env}/runs/{id}';

interface Entry {
  readonly number: number;
}

interface Feed<Item extends Entry> {
  readonly name: string;
  readonly summary: string;
  readonly item: v.GenericSchema;
  readonly limitMax: number;
  /** The log in the store. */
  readonly log: (runId: string) => string;
  readonly read: (
    services: EnvironmentServices,
    runId: string,
    query: { readonly after: number; readonly limit: number },
  ) => Promise<readonly Item[]>;
  readonly show: (item: Item) => Record<string, unknown>;
}

interface FeedQuery {
  readonly after?: number | undefined;
  readonly limit?: number | undefined;
  readonly wait?: number | undefined;
}

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const number = v.pipe(v.number(), v.safeInteger(), v.minValue(1));

const EVENTS: Feed<{ readonly number: number; readonly entry: RunEventEntry }> = {
  name: 'events',
  summary: 'What happened to a run',
  item: v.strictObject({ number, ...shownEntries(runEventSchema) }),
  limitMax: EVENTS_AT_A_TIME,
  log: eventsLog,
  read: (services, runId, query) => readEvents(services.repository, runId, query),
  show: ({ number: at, entry }) => ({
    number: at,
    ...members(showValue(runEventSchema, entry)),
  }),
};
/** As run-reports.ts writes it. */
const progressEntrySchema = v.object({
  atMs: count,
  step: v.string(),
  done: v.optional(count),
  total: v.optional(count),
  text: v.optional(v.string()),
});

const PROGRESS: Feed<{ readonly number: number; readonly text: string }> = {
  name: 'progress',
  summary: 'How far a run says that it is',
  item: v.strictObject({ number, ...shownEntries(progressEntrySchema) }),
  limitMax: EVENTS_AT_A_TIME,
  log: progressLog,
  read: async ({ repository }, runId, query) =>
    (await repository.log(progressLog(runId), query)).entries,
  show: ({ number: at, text }) => ({
    number: at,
    ...members(showValue(progressEntrySchema, JSON.parse(text))),
  }),
};

const LOGS: Feed<{
  readonly number: number;
  readonly attempt: number;
  readonly offset: number;
  readonly bytes: Buffer;
}> = {
  name: 'logs',
  summary: 'What a run wrote, in chunks of bytes; as text with Accept: text/plain',
  item: v.strictObject({
    number,
    attempt: count,
    offset: count,
    data: v.pipe(v.string(), v.base64()),
  }),
  limitMax: CHUNKS_AT_A_TIME,
  log: runLogName,
  read: ({ logs }, runId, query) => logs.read(runId, query),
  show: ({ number: at, attempt, offset, bytes }) => ({
    number: at,
    attempt,
    offset,
    data: bytes.toString('base64'),
  }),
};

export const FEED_OPERATIONS: readonly Operation[] = [
  feedOperation(EVENTS),
  feedOperation(PROGRESS),
  feedOperation(LOGS),
];

function feedOperation<Item extends Entry>(feed: Feed<Item>): Operation {
  const isLog = feed.name === LOGS.name;
  return operation({
    method: 'GET',
    path: `${PATH}/${feed.name}`,
    who: 'person',
    tag: 'Runs',
    summary: feed.summary,
    query: v.strictObject({
      after: v.optional(numberParameter(0, Number.MAX_SAFE_INTEGER)),
      limit: v.optional(numberParameter(1, feed.limitMax)),
      wait: v.optional(numberParameter(0, WAIT_SECONDS_MAX)),
    }),
    answers: [
      {
        status: 200,
        text: 'Entries behind `after`; give `next` as `after` to go on, until `isOver`',
        schema: v.strictObject({ items: v.array(feed.item), next: count, isOver: v.boolean() }),
        ...(isLog ? { contentType: 'text/plain' } : {}),
      },
    ],
    problems: ['NotFound'],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const id = param(call, 'id');
      // Also says whether the caller may look.
      await services.runs.get(caller, id);
      if (isLog && wantsText(call.request.headers.get('accept'))) {
        const body = logText(services, id, call.query.after ?? 0, call.request.signal);
        return { status: 200, content: { type: 'text/plain; charset=utf-8', body } };
      }
      return { status: 200, body: await page(api, call, services, feed) };
    },
  });
}

async function page<Item extends Entry>(
  { waits }: ApiContext,
  call: Call<FeedQuery, unknown>,
  services: EnvironmentServices,
  feed: Feed<Item>,
): Promise<{ items: readonly unknown[]; next: number; isOver: boolean }> {
  const { after = 0, limit = feed.limitMax, wait = 0 } = call.query;
  const id = param(call, 'id');
  const read = async (): Promise<{ isEnded: boolean; items: readonly Item[] }> => {
    // In this order: what was written before the end is there when the end is seen.
    const isEnded = await hasEnded(services, id);
    return { isEnded, items: await feed.read(services, id, { after, limit }) };
  };
  const { isEnded, items } = await waits.hold(
    read,
    value => value.isEnded || value.items.length > 0,
    {
      partition: param(call, 'env'),
      // A run's end is written to its events, whichever feed is read.
      topics: [feed.log(id), eventsLog(id)],
      waitMs: wait * 1_000,
      signal: call.request.signal,
    },
  );
  return {
    items: items.map(feed.show),
    next: items.at(-1)?.number ?? after,
    isOver: isEnded && items.length < limit,
  };
}

/** One that was removed meanwhile has ended, too. */
async function hasEnded({ repository }: EnvironmentServices, id: string): Promise<boolean> {
  const run = await repository.get(RUN, id);
  return run === undefined || FINAL_STATES.has(run.value.state);
}

async function* logText(
  { logs }: EnvironmentServices,
  runId: string,
  after: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let last = after;
  while (!signal.aborted) {
    const chunks = await logs.read(runId, { after: last, limit: CHUNKS_AT_A_TIME });
    for (const { number: at, bytes } of chunks) {
      last = at;
      yield bytes;
    }
    if (chunks.length < CHUNKS_AT_A_TIME) return;
  }
}

function wantsText(accept: string | undefined): boolean {
  const first = accept?.split(',')[0]?.split(';')[0]?.trim().toLowerCase();
  return first === 'text/plain';
}

function members(value: unknown): object {
  return typeof value === 'object' && value !== null ? value : {};
}
