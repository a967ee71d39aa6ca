import { useState } from 'preact/hooks';
import { connectionSchema, listOf } from '../api/records.ts';
import { targetName, usePlace } from '../place.ts';
import { href } from '../route.ts';
import { useLive } from '../ui/live.ts';
import { Ago, Badge, Empty, PageHead } from '../ui/parts.tsx';
import { LiveNote } from '../ui/problem-box.tsx';
import { Pager, Table } from '../ui/table.tsx';
import { connectionKindText } from '../words.ts';

const PAGE_SIZE = 50;

export function ConnectionsPage() {
  const { api, path, environment, directory } = usePlace();
  const [cursors, setCursors] = useState<readonly string[]>([]);
  const after = cursors.at(-1);
  const { value, problem } = useLive(`connections ${after ?? ''}`, signal =>
    api.get(listOf(connectionSchema), `${path}/connections`, {
      query: { limit: PAGE_SIZE, after },
      signal,
    }),
  );
  return (
    <>
      <PageHead title="Connections">
        <a class="button primary" href={href(environment, 'connections', 'new')}>
          Create a connection
        </a>
      </PageHead>
      <LiveNote value={value} problem={problem} />
      {value?.items.length === 0 && (
        <Empty title="There is no connection here">
          <p>
            A connection says where runs go and which account they run as. Its password is sealed in
            your browser; only the machine or group it is for can open it.
          </p>
        </Empty>
      )}
      {value !== undefined && value.items.length > 0 && (
        <Table
          caption="Connections"
          rows={value.items}
          keyOf={({ id }) => id}
          columns={[
            {
              title: 'Name',
              cell: ({ id, name }) => <a href={href(environment, 'connections', id)}>{name}</a>,
            },
            {
              title: 'Target',
              cell: ({ target }) => (
                <>
                  {targetName(directory, target)} <span class="note">{target.kind}</span>
                </>
              ),
            },
            { title: 'Signs in with', cell: ({ kind }) => connectionKindText(kind) },
            {
              title: 'Account',
              cell: ({ accountName }) => accountName ?? <span class="quiet">not told</span>,
            },
            {
              title: 'State',
              cell: ({ suspended }) =>
                suspended === undefined ? (
                  <Badge word={{ label: 'Usable', tone: 'good' }} />
                ) : (
                  <>
                    <Badge word={{ label: 'Suspended', tone: 'bad' }} />
                    <span class="note">Signing in failed</span>
                  </>
                ),
            },
            { title: 'Owner', cell: ({ owner }) => <code>{owner}</code> },
            { title: 'Changed', cell: ({ updatedAt }) => <Ago moment={updatedAt} /> },
          ]}
        />
      )}
      <Pager cursors={cursors} next={value?.next} onChange={setCursors} />
    </>
  );
}
