import { useState } from 'preact/hooks';
import { listOf, machineSchema, type Machine } from '../api/records.ts';
import { usePlace } from '../place.ts';
import { href } from '../route.ts';
import { useLive } from '../ui/live.ts';
import { Ago, Badge, Empty, PageHead } from '../ui/parts.tsx';
import { LiveNote } from '../ui/problem-box.tsx';
import { Pager, Table } from '../ui/table.tsx';
import { machineStateWord, presenceWord, reasonText } from '../words.ts';

const PAGE_SIZE = 50;

export function MachinesPage() {
  const { api, path, environment } = usePlace();
  const [cursors, setCursors] = useState<readonly string[]>([]);
  const after = cursors.at(-1);
  const { value, problem } = useLive(`machines ${after ?? ''}`, signal =>
    api.get(listOf(machineSchema), `${path}/machines`, {
      query: { limit: PAGE_SIZE, after },
      signal,
    }),
  );
  return (
    <>
      <PageHead title="Machines">
        <a class="button primary" href={href(environment, 'codes')}>
          Add a machine
        </a>
      </PageHead>
      <LiveNote value={value} problem={problem} />
      {value?.items.length === 0 && (
        <Empty title="No machine is registered here">
          <p>
            A machine is a computer that runs jobs. Create an{' '}
            <a href={href(environment, 'codes')}>activation code</a> and run the command that comes
            with it on that computer.
          </p>
        </Empty>
      )}
      {value !== undefined && value.items.length > 0 && <MachineTable rows={value.items} />}
      <Pager cursors={cursors} next={value?.next} onChange={setCursors} />
    </>
  );
}

function MachineTable({ rows }: { readonly rows: readonly Machine[] }) {
  const { environment, directory } = usePlace();
  return (
    <Table
      caption="Machines"
      rows={rows}
      keyOf={({ id }) => id}
      columns={[
        {
          title: 'Name',
          cell: ({ id, name }) => <a href={href(environment, 'machines', id)}>{name}</a>,
        },
        {
          title: 'State',
          cell: machine => (
            <>
              <Badge word={machineStateWord(machine.state)} />
              {machine.reasons.map(reason => (
                <span key={reason} class="note">
                  {reasonText(reason)}
                </span>
              ))}
            </>
          ),
        },
        {
          title: 'Presence',
          cell: ({ presence }) => (
            <>
              <Badge word={presenceWord(presence.state)} />
              {presence.lastSignalAt !== undefined && (
                <span class="note">
                  <Ago moment={presence.lastSignalAt} />
                </span>
              )}
            </>
          ),
        },
        {
          title: 'Group',
          cell: ({ group }) =>
            group === undefined ? (
              <span class="quiet">none</span>
            ) : (
              <a href={href(environment, 'groups', group.id)}>
                {directory.groups.get(group.id)?.name ?? group.id}
              </a>
            ),
        },
        {
          title: 'Version',
          cell: machine => machine.presence.agentVersion ?? machine.registeredVersion,
        },
        { title: 'Owner', cell: ({ owner }) => <code>{owner}</code> },
        {
          title: 'Running',
          isNumber: true,
          cell: ({ running }) => running.unattended + running.attended,
        },
        { title: 'Waiting', isNumber: true, cell: ({ waiting }) => waiting },
      ]}
    />
  );
}
