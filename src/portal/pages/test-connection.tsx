import { useState } from 'preact/hooks';
import { listOf, runSchema, type Connection } from '../api/records.ts';
import { newId, usePlace } from '../place.ts';
import { go, href } from '../route.ts';
import { Dialog } from '../ui/dialog.tsx';
import { Checkbox } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';

/** A run that signs in and does nothing else. Source: job-dispatch.md section 6. */
export function TestConnection(props: {
  readonly connection: Connection;
  readonly onClose: () => void;
}) {
  const { api, path, environment } = usePlace();
  const { connection, onClose } = props;
  const [idempotencyKey] = useState(newId);
  const own = `${path}/connections/${encodeURIComponent(connection.id)}:test`;
  return (
    <Dialog title={`Test ${connection.name}?`} onClose={onClose}>
      <Form
        submit="Test now"
        onCancel={onClose}
        onSubmit={async values => {
          const isEvery = values.has('everyMember');
          const change = { idempotencyKey, body: isEvery ? { everyMember: true } : {} };
          if (isEvery) {
            await api.change(listOf(runSchema), 'POST', own, change);
            go(href(environment, 'runs', undefined, { connectionId: connection.id }));
            return;
          }
          const run = await api.change(runSchema, 'POST', own, change);
          go(href(environment, 'runs', run.id));
        }}
      >
        <p>
          {connection.kind === 'none'
            ? 'The machine looks whether somebody is signed in.'
            : 'The machine opens the credentials and signs in as the account, once, and runs nothing. A wrong password counts as a failed sign-in.'}
        </p>
        {connection.target.kind === 'group' && (
          <Checkbox
            name="everyMember"
            label="On every machine of the group, one after the other"
            hint="An account may have another password on each of them."
          />
        )}
      </Form>
    </Dialog>
  );
}
