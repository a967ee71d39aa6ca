import { useState } from 'preact/hooks';
import { fingerprintOf } from '../../crypto/fingerprint.ts';
import { groupSchema, type Group } from '../api/records.ts';
import { usePlace } from '../place.ts';
import { go, href } from '../route.ts';
import { Confirm, DialogButton } from '../ui/confirm.tsx';
import { Dialog } from '../ui/dialog.tsx';
import { TextArea, TextField, textOf } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { useLive } from '../ui/live.ts';
import { Ago, Badge, Copyable, Facts, notify, PageHead } from '../ui/parts.tsx';
import { LiveNote } from '../ui/problem-box.tsx';
import { Table } from '../ui/table.tsx';
import { groupStateWord, machineStateWord, presenceWord, reasonText } from '../words.ts';
import { AccessPanel } from './access.tsx';
import { GroupKey } from './group-key.tsx';
import { joinGroupCommand } from './machine-commands.ts';
import { QueuePanel } from './queue.tsx';
import { RunHereButton } from './run-here.tsx';
import { toggle } from './toggle.ts';

export function GroupPage({ id }: { readonly id: string }) {
  const { api, path, environment } = usePlace();
  const own = `${path}/groups/${encodeURIComponent(id)}`;
  const { value, problem, reload } = useLive(`group ${id}`, signal =>
    api.get(groupSchema, own, { signal }),
  );
  const above = <a href={href(environment, 'groups')}>Groups</a>;
  if (value === undefined) {
    return (
      <>
        <PageHead title="Group" above={above} />
        <LiveNote value={value} problem={problem} />
      </>
    );
  }
  return (
    <>
      <PageHead title={value.name} above={above} badge={groupStateWord(value.state)}>
        {value.key !== undefined && (
          <RunHereButton target={{ kind: 'group', id }} name={value.name} />
        )}
        <DialogButton
          label="Edit"
          dialog={close => <EditGroup group={value} path={own} onDone={reload} onClose={close} />}
        />
        <button
          type="button"
          role="switch"
          aria-checked={value.isInMaintenance}
          onClick={() =>
            void toggle({
              api,
              path: own,
              version: value.version,
              maintenance: !value.isInMaintenance,
            }).then(reload)
          }
        >
          Maintenance
        </button>
      </PageHead>
      <LiveNote value={value} problem={problem} />
      {value.state === 'NeedsKey' && <NeedsKey group={value} />}
      <GroupFacts group={value} />
      <Members group={value} path={own} onChanged={reload} />
      {value.key !== undefined && <GroupKey group={value} path={own} onChanged={reload} />}
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
        <p>Its machines leave it, what waits for it fails, and its key is gone for good.</p>
        <DialogButton
          label="Delete group…"
          class="danger"
          dialog={close => (
            <Confirm
              title={`Delete ${value.name}?`}
              action="Delete group"
              typed={value.name}
              onClose={close}
              onConfirm={async () => {
                await api.act('DELETE', own, { ifMatch: value.version });
                notify(`${value.name} was deleted`);
                go(href(environment, 'groups'));
              }}
            >
              <p>
                Connections to it need new credentials for another target. This cannot be undone.
              </p>
            </Confirm>
          )}
        />
      </section>
    </>
  );
}

function NeedsKey({ group }: { readonly group: Group }) {
  return (
    <div class="box warn">
      <p>
        <strong>This group has no key yet.</strong> The first machine that joins makes it, together
        with a password that it shows there once: machines that join later are asked for it. Neither
        leaves the machines in the clear, so nobody can tell you the password again. On that machine
        run:
      </p>
      <Copyable text={joinGroupCommand(group.id)} label="command to join the group" />
      <p>Until then nothing can be sealed to the group, and runs to it are refused.</p>
    </div>
  );
}

function GroupFacts({ group }: { readonly group: Group }) {
  const { key } = group;
  return (
    <Facts
      rows={[
        key === undefined
          ? undefined
          : [
              'Fingerprint of its key',
              <code class="fingerprint">{fingerprintOf(key.publicKey.kid)}</code>,
            ],
        key?.passwordChangedAt === undefined
          ? undefined
          : [
              'Password set',
              <>
                <Ago moment={key.passwordChangedAt} /> by <code>{key.passwordChangedBy}</code>
              </>,
            ],
        ['Waiting', `${group.waiting} runs`],
        group.description === '' ? undefined : ['Description', group.description],
        ['Id', <code>{group.id}</code>],
      ]}
    />
  );
}

function Members(props: {
  readonly group: Group;
  readonly path: string;
  readonly onChanged: () => void;
}) {
  const { api, environment, directory } = usePlace();
  const { group } = props;
  const rows = group.members.map(id => ({ id, machine: directory.machines.get(id) }));
  return (
    <section class="panel">
      <h2>Machines</h2>
      {rows.length === 0 && <p class="quiet">None has joined.</p>}
      {rows.length > 0 && (
        <Table
          caption="Machines of the group"
          rows={rows}
          keyOf={({ id }) => id}
          columns={[
            {
              title: 'Name',
              cell: ({ id, machine }) => (
                <a href={href(environment, 'machines', id)}>{machine?.name ?? id}</a>
              ),
            },
            {
              title: 'State',
              cell: ({ machine }) =>
                machine !== undefined && (
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
              cell: ({ machine }) =>
                machine !== undefined && <Badge word={presenceWord(machine.presence.state)} />,
            },
            {
              title: 'Take out',
              cell: ({ id, machine }) => (
                <DialogButton
                  label="Remove…"
                  dialog={close => (
                    <Confirm
                      title={`Take ${machine?.name ?? id} out of the group?`}
                      action="Take out"
                      onClose={close}
                      onConfirm={async () => {
                        await api.act('DELETE', `${props.path}/members/${encodeURIComponent(id)}`);
                        props.onChanged();
                        directory.reload();
                      }}
                    >
                      <p>
                        It deletes its copy of the group’s key, but nobody can prove that it did. If
                        you do not trust it any more, replace the key afterwards.
                      </p>
                    </Confirm>
                  )}
                />
              ),
            },
          ]}
        />
      )}
      {group.state !== 'NeedsKey' && (
        <details>
          <summary>Let another machine join</summary>
          <p>On that machine run this, and type the group’s password when it asks:</p>
          <Copyable text={joinGroupCommand(group.id)} label="command to join the group" />
        </details>
      )}
    </section>
  );
}

function EditGroup(props: {
  readonly group: Group;
  readonly path: string;
  readonly onDone: () => void;
  readonly onClose: () => void;
}) {
  const { api } = usePlace();
  const [group] = useState(props.group);
  return (
    <Dialog title={`Edit ${group.name}`} onClose={props.onClose}>
      <Form
        submit="Save"
        onCancel={props.onClose}
        onSubmit={async values => {
          await api.act('PATCH', props.path, {
            ifMatch: group.version,
            body: {
              name: textOf(values, 'name') ?? '',
              description: textOf(values, 'description') ?? '',
            },
          });
          props.onDone();
          props.onClose();
        }}
      >
        <TextField label="Name" name="name" value={group.name} isRequired hasFocus />
        <TextArea label="Description" name="description" value={group.description} />
      </Form>
    </Dialog>
  );
}
