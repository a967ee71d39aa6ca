import type { Run } from '../api/records.ts';
import { connectionName, machineName, targetName, usePlace } from '../place.ts';
import { href } from '../route.ts';
import { durationBetween } from '../times.ts';
import { Ago, Badge } from '../ui/parts.tsx';
import { Table } from '../ui/table.tsx';
import { runStateWord } from '../words.ts';

/** Runs as a list, wherever they are shown. */
export function RunTable({
  caption,
  rows,
}: {
  readonly caption: string;
  readonly rows: readonly Run[];
}) {
  const { environment, directory } = usePlace();
  return (
    <Table
      caption={caption}
      rows={rows}
      keyOf={({ id }) => id}
      columns={[
        { title: 'Job', cell: run => <a href={href(environment, 'runs', run.id)}>{run.jobRef}</a> },
        {
          title: 'State',
          cell: run => (
            <>
              <Badge word={runStateWord(run.state)} />
              {run.fault !== undefined && <code class="note">{run.fault.code}</code>}
            </>
          ),
        },
        {
          title: 'Where',
          cell: run => (
            <>
              {targetName(directory, run.target)}
              {run.machineId !== undefined && run.machineId !== run.target.id && (
                <span class="note">on {machineName(directory, run.machineId)}</span>
              )}
            </>
          ),
        },
        { title: 'Connection', cell: run => connectionName(directory, run.connectionId) },
        { title: 'Owner', cell: run => <code>{run.owner}</code> },
        { title: 'Queued', cell: run => <Ago moment={run.queuedAt} /> },
        {
          title: 'Took',
          isNumber: true,
          cell: ({ startedAt, endedAt }) =>
            startedAt === undefined ? '' : durationBetween(startedAt, endedAt),
        },
      ]}
    />
  );
}
