import { useState } from 'preact/hooks';
import { fingerprintOf } from '../../crypto/fingerprint.ts';
import { auditEntrySchema, listOf, type AuditEntry } from '../api/records.ts';
import { toProblem } from '../api/problem.ts';
import { shortId, usePlace } from '../place.ts';
import { href } from '../route.ts';
import { exactTime } from '../times.ts';
import { useLive } from '../ui/live.ts';
import { Empty, notify, PageHead } from '../ui/parts.tsx';
import { LiveNote } from '../ui/problem-box.tsx';
import { Pager, Table } from '../ui/table.tsx';

const PAGE_SIZE = 100;
const auditPage = listOf(auditEntrySchema);

export function AuditPage() {
  const { api, path } = usePlace();
  const [cursors, setCursors] = useState<readonly string[]>([]);
  const [isSeeking, setSeeking] = useState(false);
  const after = cursors.at(-1);
  const read = (from: string | undefined, signal?: AbortSignal) =>
    api.get(auditPage, `${path}/audit`, {
      query: { limit: PAGE_SIZE, after: from },
      ...(signal === undefined ? {} : { signal }),
    });
  const { value, problem } = useLive(`audit ${after ?? ''}`, signal => read(after, signal));
  const items = value?.items ?? [];

  // The log is read forwards only.
  const seekLatest = async (): Promise<void> => {
    setSeeking(true);
    const passed = [...cursors];
    try {
      for (;;) {
        const page = await read(passed.at(-1));
        if (page.next === undefined) break;
        passed.push(String(page.next));
      }
      setCursors(passed);
    } catch (error) {
      notify(toProblem(error).message);
    }
    setSeeking(false);
  };
  return (
    <>
      <PageHead title="Audit">
        {value?.next !== undefined && (
          <button type="button" disabled={isSeeking} onClick={() => void seekLatest()}>
            {isSeeking ? 'One moment…' : 'Go to the latest'}
          </button>
        )}
      </PageHead>
      <p>
        Every change to machines, groups, connections, access and keys, in the order it happened.
      </p>
      <LiveNote value={value} problem={problem} />
      {value !== undefined && items.length === 0 && <Empty title="No more entries" />}
      {items.length > 0 && (
        <Table
          caption="Audit entries"
          rows={items}
          keyOf={({ number }) => String(number)}
          columns={[
            {
              title: 'When',
              cell: ({ at }) => (
                <time class="moment" dateTime={at}>
                  {exactTime(at)}
                </time>
              ),
            },
            { title: 'What', cell: ({ action }) => <code>{action}</code> },
            { title: 'By', cell: ({ by }) => <code>{by}</code> },
            { title: 'On', cell: ({ object }) => <Changed id={object} /> },
            {
              title: 'Details',
              cell: ({ details }) => <span class="small details">{detailsText(details)}</span>,
            },
          ]}
        />
      )}
      <Pager cursors={cursors} next={value?.next} onChange={setCursors} />
    </>
  );
}

/** What was changed, by its name while it is there. */
function Changed({ id }: { readonly id: string }) {
  const { directory, environment } = usePlace();
  for (const page of ['machines', 'groups', 'connections'] as const) {
    const record = directory[page].get(id);
    if (record !== undefined) return <a href={href(environment, page, id)}>{record.name}</a>;
  }
  return <code title={id}>{shortId(id)}</code>;
}

function detailsText(details: AuditEntry['details']): string {
  return Object.entries(details)
    .filter(([, value]) => value !== '')
    .map(([name, value]) =>
      name === 'kid' ? `key: ${keyText(String(value))}` : `${name}: ${value}`,
    )
    .join(', ');
}

function keyText(kid: string): string {
  try {
    return fingerprintOf(kid);
  } catch {
    // Whatever a newer server may call a key.
    return kid;
  }
}
