import * as v from 'valibot';
import type { Draft, Repository } from './repository.ts';

/** What happened to a run, for people: one log a run. Source: job-dispatch.md section 7.3. */
export const runEventSchema = v.object({
  atMs: v.number(),
  type: v.picklist([
    'queued',
    'machineSelected',
    'preChecks',
    'machineReturnedError',
    'returnedToQueue',
    'started',
    'running',
    'priorityChanged',
    'movedToTop',
    'movedBack',
    'cancelRequested',
    'timeLimitReached',
    'completed',
    'completedWithError',
    'resultRecovered',
    'blockedBySession',
    'callbackDelivered',
    'callbackFailed',
  ]),
  machineId: v.optional(v.string()),
  attempt: v.optional(v.number()),
  code: v.optional(v.string()),
  message: v.optional(v.string()),
  by: v.optional(v.string()),
});
export type RunEventEntry = v.InferOutput<typeof runEventSchema>;

export const RUN_EVENTS_KEEP = 1_000;

export function eventsLog(runId: string): string {
  return `events:${runId}`;
}

export function appendEvent(draft: Draft, runId: string, entry: RunEventEntry): void {
  draft.append(eventsLog(runId), entry, RUN_EVENTS_KEEP);
}

export async function readEvents(
  repository: Repository,
  runId: string,
  query: { readonly after: number; readonly limit: number },
): Promise<readonly { readonly number: number; readonly entry: RunEventEntry }[]> {
  const { entries } = await repository.log(eventsLog(runId), query);
  return entries.map(({ number, text }) => ({
    number,
    entry: v.parse(runEventSchema, JSON.parse(text)),
  }));
}
