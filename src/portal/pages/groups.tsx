import { useState } from 'preact/hooks';
import { groupSchema, listOf, type Group } from '../api/records.ts';
import { newId, usePlace } from '../place.ts';
import { go, href } from '../route.ts';
import { DialogButton } from '../ui/confirm.tsx';
import { Dialog } from '../ui/dialog.tsx';
import { TextArea, TextField, textOf } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { useLive } from '../ui/live.ts';
import { Badge, Empty, PageHead } from '../ui/parts.tsx';
import { LiveNote } from '../ui/problem-box.tsx';
import { Table } from '../ui/table.tsx';
import { groupStateWord } from '../words.ts';

export function GroupsPage() {
  const { api, path, environment } = usePlace();
  const { value, problem } = useLive('groups', signal =>
    api.get(listOf(groupSchema), `${path}/groups`, { query: { limit: 200 }, signal }),
  );
  return (
    <>
      <PageHead title="Groups">
        <DialogButton
          label="Create a group"
          class="primary"
          dialog={close => <CreateGroup onClose={close} />}
        />
      </PageHead>
      <LiveNote value={value} problem={problem} />
      {value?.items.length === 0 && (
        <Empty title="There is no group here">
          <p>
            Machines of a group stand in for one another: a run goes to whichever is free. They
            share one key, so that each of them can open the group’s connections.
          </p>
        </Empty>
      )}
      {value !== undefined && value.items.length > 0 && (
        <Table
          caption="Groups"
          rows={value.items}
          keyOf={({ id }) => id}
          columns={[
            {
              title: 'Name',
              cell: ({ id, name }) => <a href={href(environment, 'groups', id)}>{name}</a>,
            },
            {
              title: 'State',
              cell: ({ state }) => (
                <>
                  <Badge word={groupStateWord(state)} />
                  {state === 'NeedsKey' && <span class="note">No machine has joined yet</span>}
                </>
              ),
            },
            { title: 'Owner', cell: ({ owner }) => <code>{owner}</code> },
            { title: 'Machines', isNumber: true, cell: ({ members }) => members.length },
            { title: 'Waiting', isNumber: true, cell: ({ waiting }: Group) => waiting },
          ]}
        />
      )}
    </>
  );
}

function CreateGroup({ onClose }: { readonly onClose: () => void }) {
  const { api, path, environment, directory } = usePlace();
  const [idempotencyKey] = useState(newId);
  return (
    <Dialog title="Create a group" onClose={onClose}>
      <Form
        submit="Create group"
        onCancel={onClose}
        onSubmit={async values => {
          const group = await api.change(groupSchema, 'POST', `${path}/groups`, {
            idempotencyKey,
            body: {
              name: textOf(values, 'name') ?? '',
              description: textOf(values, 'description') ?? '',
            },
          });
          directory.reload();
          go(href(environment, 'groups', group.id));
        }}
      >
        <TextField label="Name" name="name" isRequired hasFocus />
        <TextArea label="Description" name="description" />
      </Form>
    </Dialog>
  );
}
