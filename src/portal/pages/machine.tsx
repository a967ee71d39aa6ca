import { fingerprintOf } from '../../crypto/fingerprint.ts';
import { toProblem } from '../api/problem.ts';
import { echoSchema, machineSchema, type Machine } from '../api/records.ts';
import { usePlace } from '../place.ts';
import { go, href } from '../route.ts';
import { durationText } from '../times.ts';
import { Confirm, DialogButton } from '../ui/confirm.tsx';
import { useLive } from '../ui/live.ts';
import { Ago, Badge, Facts, notify, PageHead } from '../ui/parts.tsx';
import { LiveNote } from '../ui/problem-box.tsx';
import { machineStateWord, presenceWord, reasonText } from '../words.ts';
import { AccessPanel } from './access.tsx';
import { EditMachine } from './edit-machine.tsx';
import { QueuePanel } from './queue.tsx';
import { RunHereButton } from './run-here.tsx';
import { toggle } from './toggle.ts';

export function MachinePage({ id }: { readonly id: string }) {
  const { api, path, environment } = usePlace();
  const own = `${path}/machines/${encodeURIComponent(id)}`;
  const { value, problem, reload } = useLive(`machine ${id}`, signal =>
    api.get(machineSchema, own, { signal }),
  );
  const above = <a href={href(environment, 'machines')}>Machines</a>;
  if (value === undefined) {
    return (
      <>
        <PageHead title="Machine" above={above} />
        <LiveNote value={value} problem={problem} />
      </>
    );
  }
  return (
    <>
      <PageHead title={value.name} above={above} badge={machineStateWord(value.state)}>
        <RunHereButton target={{ kind: 'machine', id }} name={value.name} />
        <DialogButton
          label="Edit"
          dialog={close => <EditMachine machine={value} onDone={reload} onClose={close} />}
        />
      </PageHead>
      <LiveNote value={value} problem={problem} />
      {value.reasons.length > 0 && (
        <div class="box warn">
          <p>
            <strong>No new run is given to it.</strong>
          </p>
          <ul>
            {value.reasons.map(reason => (
              <li key={reason}>{reasonText(reason)}</li>
            ))}
          </ul>
        </div>
      )}
      <MachineFacts machine={value} />
      <Service machine={value} path={own} onChanged={reload} />
      <QueuePanel path={`${own}/queue`} />
      <AccessPanel
        owner={value.owner}
        access={value.access}
        path={own}
        grants={['co-owner', 'edit', 'user']}
        onChanged={reload}
      />
      <section class="panel">
        <h2>Delete</h2>
        <p>
          What waits for it fails, connections to it cannot be used any more, and it must be
          registered again to return.
        </p>
        <DialogButton
          label="Delete machine…"
          class="danger"
          dialog={close => (
            <Confirm
              title={`Delete ${value.name}?`}
              action="Delete machine"
              typed={value.name}
              onClose={close}
              onConfirm={async () => {
                await api.act('DELETE', own, { ifMatch: value.version });
                notify(`${value.name} was deleted`);
                go(href(environment, 'machines'));
              }}
            >
              <p>
                {value.waiting} waiting and {value.running.unattended + value.running.attended}{' '}
                running runs are lost to it. This cannot be undone.
              </p>
            </Confirm>
          )}
        />
      </section>
    </>
  );
}

function MachineFacts({ machine }: { readonly machine: Machine }) {
  const { environment, directory } = usePlace();
  const { presence, group } = machine;
  const capacity = presence.capacity;
  return (
    <Facts
      rows={[
        [
          'Presence',
          <>
            <Badge word={presenceWord(presence.state)} /> last heard{' '}
            <Ago moment={presence.lastSignalAt} />
            {presence.transport !== undefined && <> by {presence.transport}</>}
            {presence.sourceAddress !== undefined && <> from {presence.sourceAddress}</>}
          </>,
        ],
        [
          'Fingerprint of its key',
          <code class="fingerprint">{fingerprintOf(machine.encryptionKey.kid)}</code>,
        ],
        [
          'Runs',
          <>
            {machine.running.unattended} unattended and {machine.running.attended} attended running,{' '}
            {machine.waiting} waiting
          </>,
        ],
        [
          'Allowed at once',
          `${machine.allocatedBots} unattended${capacity === undefined ? '' : ` (it can do ${capacity.unattended})`}`,
        ],
        ['Service version', presence.agentVersion ?? machine.registeredVersion],
        ['System', presence.os ?? machine.os],
        [
          'Group',
          group === undefined ? (
            'none'
          ) : (
            <a href={href(environment, 'groups', group.id)}>
              {directory.groups.get(group.id)?.name ?? group.id}
            </a>
          ),
        ],
        [
          'Signed in there',
          presence.sessions.length === 0
            ? 'nobody'
            : presence.sessions.map(({ user, state }) => `${user} (${state})`).join(', '),
        ],
        presence.clockSkewMs === undefined ? undefined : ['Clock', skewText(presence.clockSkewMs)],
        machine.description === '' ? undefined : ['Description', machine.description],
        ['Id', <code>{machine.id}</code>],
      ]}
    />
  );
}

function skewText(skewMs: number): string {
  const seconds = Math.round(skewMs / 1_000);
  if (seconds === 0) return 'as the server’s';
  return `${Math.abs(seconds)} s ${seconds > 0 ? 'ahead of' : 'behind'} the server’s`;
}

/** Taking a machine out of service, for a while or when its work is done. */
function Service(props: {
  readonly machine: Machine;
  readonly path: string;
  readonly onChanged: () => void;
}) {
  const { api } = usePlace();
  const { machine, path, onChanged } = props;
  return (
    <section class="panel">
      <h2>Service</h2>
      <p>
        In maintenance a machine gets no new run; those that run go on. Draining does the same, and
        shows the machine as inactive when the last one has ended.
      </p>
      <div class="buttons">
        <button
          type="button"
          role="switch"
          aria-checked={machine.isInMaintenance}
          onClick={() =>
            toggle({
              api,
              path,
              version: machine.version,
              maintenance: !machine.isInMaintenance,
            }).then(onChanged)
          }
        >
          Maintenance
        </button>
        {!machine.isDraining && (
          <DialogButton
            label="Drain…"
            dialog={close => (
              <Confirm
                title={`Drain ${machine.name}?`}
                action="Drain"
                onClose={close}
                onConfirm={async () => {
                  await api.act('POST', `${path}:drain`);
                  onChanged();
                }}
              >
                <p>It takes nothing new until you put it back into service.</p>
              </Confirm>
            )}
          />
        )}
        <EchoButton path={path} />
        {machine.isDraining && (
          <button
            type="button"
            onClick={() =>
              toggle({ api, path, version: machine.version, maintenance: false }).then(onChanged)
            }
          >
            Back into service
          </button>
        )}
      </div>
    </section>
  );
}

/** Asks the machine for a sign of life, through the relay. */
function EchoButton({ path }: { readonly path: string }) {
  const { api } = usePlace();
  const ask = async (): Promise<void> => {
    try {
      const { roundTripMs } = await api.change(echoSchema, 'POST', `${path}:echo`);
      notify(`It answered after ${durationText(roundTripMs)}`);
    } catch (error) {
      notify(toProblem(error).message);
    }
  };
  return (
    <button type="button" onClick={() => void ask()}>
      Is it there?
    </button>
  );
}
