import { listOf, runSchema } from '../api/records.ts';
import { usePlace } from '../place.ts';
import { useLive } from '../ui/live.ts';
import { LiveNote } from '../ui/problem-box.tsx';
import { RunTable } from './run-table.tsx';

const SHOWN_MAX = 20;

/** What waits for a machine or group, in the order in which it comes next. */
export function QueuePanel({ path }: { readonly path: string }) {
  const { api } = usePlace();
  const { value, problem } = useLive(`queue ${path}`, signal =>
    api.get(listOf(runSchema), path, { query: { limit: SHOWN_MAX }, signal }),
  );
  return (
    <section class="panel">
      <h2>Queue</h2>
      <LiveNote value={value} problem={problem} />
      {value?.items.length === 0 && <p class="quiet">Nothing waits.</p>}
      {value !== undefined && value.items.length > 0 && (
        <RunTable caption="Waiting runs, the next one first" rows={value.items} />
      )}
      {value?.next !== undefined && <p class="quiet">And more.</p>}
    </section>
  );
}
