import { useState } from 'preact/hooks';
import { auditEntrySchema, listOf, type AuditEntry } from '../api/records.ts';
import { usePlace } from '../place.ts';
import { exactTime } from '../times.ts';
import { useLive } from '../ui/live.ts';
import { Empty, PageHead } from '../ui/parts.tsx';
import { StaleNote } from '../ui/problem-box.tsx';
import { Pager, Table } from '../ui/table.tsx';

const PAGE_SIZE = 100;

export function AuditPage() {
  const { api, path } = usePlace();
  const [cursors, setCursors] = useState<readonly string[]>([]);
  const after = cursors.at(-1);
  const { value, problem } = useLive(`audit ${after ?? ''}`, signal =>
    api.get(listOf(auditEntrySchema), `${path}/audit`, {
      query: { limit: PAGE_SIZE, after },
      signal,
    }),
  );
  const items = value?.items ?? [];
  return (
    <>
      <PageHead title="Audit" />
      <p>
        Every change to machines, groups, connections, access and keys, in the order it happened.
      </p>
      <StaleNote problem={problem} />
      {value !== undefined && items.length === 0 && <Empty title="No more entries" />}
      {items.length > 0 && (
        <Table
          caption="Audit entries"
          rows={items}
          keyOf={({ number }) => String(number)}
          columns={[
            { title: 'When', cell: ({ at }) => <time dateTime={at}>{exactTime(at)}</time> },
            { title: 'What', cell: ({ action }) => <code>{action}</code> },
            { title: 'By', cell: ({ by }) => <code>{by}</code> },
            { title: 'On', cell: ({ object }) => <code>{object}</code> },
            { title: 'Details', cell: ({ details }: AuditEntry) => detailsText(details) },
          ]}
        />
      )}
      <Pager cursors={cursors} next={value?.next} onChange={setCursors} />
    </>
  );
}

function detailsText(details: AuditEntry['details']): string {
  return Object.entries(details)
    .map(([name, value]) => `${name}: ${value}`)
    .join(', ');
}
