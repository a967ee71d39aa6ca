import { useState } from 'preact/hooks';
import { listOf, runSchema } from '../api/records.ts';
import { usePlace } from '../place.ts';
import { href, route } from '../route.ts';
import { useLive } from '../ui/live.ts';
import { Empty, PageHead } from '../ui/parts.tsx';
import { LiveNote } from '../ui/problem-box.tsx';
import { Pager } from '../ui/table.tsx';
import { RUN_STATE_NAMES, runStateWord } from '../words.ts';
import { RunTable } from './run-table.tsx';

const PAGE_SIZE = 50;

interface Filter {
  readonly state: string;
  readonly connectionId: string;
  readonly machineId: string;
  readonly groupId: string;
  readonly owner: string;
}
const EVERYTHING: Filter = { state: '', connectionId: '', machineId: '', groupId: '', owner: '' };

export function RunsPage() {
  const { api, path, environment } = usePlace();
  const [filter, setFilter] = useState<Filter>({
    ...EVERYTHING,
    connectionId: route.value.query.get('connectionId') ?? '',
  });
  const [cursors, setCursors] = useState<readonly string[]>([]);
  const after = cursors.at(-1);
  const query = { ...filter, limit: PAGE_SIZE, after };
  const { value, problem } = useLive(`runs ${JSON.stringify(query)}`, signal =>
    api.get(listOf(runSchema), `${path}/runs`, { query, signal }),
  );
  const isFiltered = Object.values(filter).some(chosen => chosen !== '');
  return (
    <>
      <PageHead title="Runs">
        <a class="button primary" href={href(environment, 'runs', 'new')}>
          Start a run
        </a>
      </PageHead>
      <Filters
        filter={filter}
        onChange={changed => {
          setFilter(changed);
          setCursors([]);
        }}
      />
      <LiveNote value={value} problem={problem} />
      {value?.items.length === 0 && (
        <Empty title={isFiltered ? 'No run is like that' : 'Nothing has run here yet'}>
          {isFiltered && (
            <button type="button" onClick={() => setFilter(EVERYTHING)}>
              Show all
            </button>
          )}
        </Empty>
      )}
      {value !== undefined && value.items.length > 0 && (
        <RunTable caption="Runs, the latest first" rows={value.items} />
      )}
      <Pager cursors={cursors} next={value?.next} onChange={setCursors} />
    </>
  );
}

function Filters(props: { readonly filter: Filter; readonly onChange: (filter: Filter) => void }) {
  const { directory, me } = usePlace();
  const { filter } = props;
  const choice = (
    label: string,
    member: keyof Filter,
    options: readonly (readonly [string, string])[],
  ) => (
    <label>
      <span>{label}</span>
      <select
        onChange={event => props.onChange({ ...filter, [member]: event.currentTarget.value })}
      >
        {[['', 'all'] as const, ...options].map(([value, text]) => (
          <option key={value} value={value} selected={value === filter[member]}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
  return (
    <div class="filters" role="group" aria-label="Show only">
      {choice(
        'State',
        'state',
        RUN_STATE_NAMES.map(name => [name, runStateWord(name).label]),
      )}
      {choice('Connection', 'connectionId', named(directory.connections.values()))}
      {choice('Machine', 'machineId', named(directory.machines.values()))}
      {choice('Group', 'groupId', named(directory.groups.values()))}
      {choice('Owner', 'owner', [[me.name, 'me']])}
    </div>
  );
}

function named(
  items: Iterable<{ readonly id: string; readonly name: string }>,
): readonly (readonly [string, string])[] {
  return [...items].map(({ id, name }) => [id, name]);
}
