import { fingerprintOf } from '../../crypto/fingerprint.ts';
import { keyRotationSchema, resealedSchema, type Group, type KeyRotation } from '../api/records.ts';
import { connectionName, machineName, usePlace } from '../place.ts';
import { href } from '../route.ts';
import { Confirm, DialogButton } from '../ui/confirm.tsx';
import { Checkbox } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { useLive } from '../ui/live.ts';
import { Ago, Copyable, notify } from '../ui/parts.tsx';
import { LiveNote } from '../ui/problem-box.tsx';

interface KeyProps {
  readonly group: Group;
  /** Of the group in the API. */
  readonly path: string;
  readonly onChanged: () => void;
}

/** The group's key, and how another one takes its place. Source: job-dispatch.md section 4.2. */
export function GroupKey(props: KeyProps) {
  const { group } = props;
  return (
    <section class="panel">
      <h2>Key</h2>
      <p>
        The group’s password can be changed on any of its machines; that is no change of the key.
        Whoever kept the old package and the old password still has the key. After a machine has
        left, or in doubt, replace the key.
      </p>
      {group.rotation === undefined ? <StartRotation {...props} /> : <Rotation {...props} />}
    </section>
  );
}

function StartRotation({ path, onChanged }: KeyProps) {
  const { api } = usePlace();
  return (
    <DialogButton
      label="Replace the key…"
      dialog={close => (
        <Confirm
          title="Replace the group’s key?"
          action="Begin"
          onClose={close}
          onConfirm={async () => {
            await api.act('POST', `${path}:rotate-key`);
            onChanged();
          }}
        >
          <p>
            Runs go on meanwhile. One machine makes the next key, the others take it, what is sealed
            to the present one is sealed anew, and then the next one becomes the present one.
          </p>
        </Confirm>
      )}
    />
  );
}

function Rotation({ group, path, onChanged }: KeyProps) {
  const { api } = usePlace();
  const { value, problem, reload } = useLive(`rotation ${group.id}`, signal =>
    api.get(keyRotationSchema, `${path}/key-rotation`, { signal }),
  );
  return (
    <>
      <LiveNote value={value} problem={problem} />
      {value !== undefined && (
        <Steps rotation={value} path={path} onResealed={reload} onChanged={onChanged} />
      )}
      <DialogButton
        label="Give it up…"
        dialog={close => (
          <Confirm
            title="Give the replacement up?"
            action="Give up"
            onClose={close}
            onConfirm={async () => {
              await api.act('POST', `${path}:cancel-rotation`);
              onChanged();
            }}
          >
            <p>The present key stays. That is possible while nothing is sealed to the next one.</p>
          </Confirm>
        )}
      />
    </>
  );
}

function Steps(props: {
  readonly rotation: KeyRotation;
  readonly path: string;
  readonly onResealed: () => void;
  /** The group itself has changed: there is no rotation any more. */
  readonly onChanged: () => void;
}) {
  const { environment, directory } = usePlace();
  const { secondary, members, connections, startedAt, startedBy } = props.rotation;
  const lacking = members.filter(({ hasSecondary }) => !hasSecondary);
  return (
    <>
      <p>
        A replacement was begun <Ago moment={startedAt} /> by <code>{startedBy}</code>.
      </p>
      <ol class="steps">
        <li>
          {secondary === undefined ? (
            <>
              On one of the machines make the next key:
              <Copyable text="halfway machine rotate-group-key" label="command to make the key" />
            </>
          ) : (
            <>
              The next key is made: <code class="fingerprint">{fingerprintOf(secondary.kid)}</code>
            </>
          )}
        </li>
        <li>
          {lacking.length === 0
            ? 'All machines have it.'
            : `On these machines run the same command: ${lacking
                .map(({ machineId }) => machineName(directory, machineId))
                .join(', ')}`}
        </li>
        <li>
          {connections.left === 0
            ? 'Nothing is sealed to the present key any more.'
            : `${connections.left} connections are sealed to the present key.`}{' '}
          {connections.ofOwners.length > 0 && (
            <>
              Only with new credentials, once the next key is the present one:{' '}
              {connections.ofOwners.map((id, index) => (
                <>
                  {index > 0 && ', '}
                  <a key={id} href={href(environment, 'connections', id)}>
                    {connectionName(directory, id)}
                  </a>
                </>
              ))}
              .
            </>
          )}
          {connections.left > connections.ofOwners.length && (
            <Reseal path={props.path} onDone={props.onResealed} />
          )}
        </li>
        <li>
          <Promote {...props} />
        </li>
      </ol>
    </>
  );
}

function Reseal({ path, onDone }: { readonly path: string; readonly onDone: () => void }) {
  const { api } = usePlace();
  return (
    <Form
      submit="Have the others sealed anew"
      onSubmit={async () => {
        const { resealed, refused } = await api.change(resealedSchema, 'POST', `${path}:reseal`);
        notify(`${resealed} sealed anew, ${refused.length} not`);
        onDone();
      }}
    />
  );
}

function Promote(props: {
  readonly rotation: KeyRotation;
  readonly path: string;
  readonly onChanged: () => void;
}) {
  const { api } = usePlace();
  return (
    <Form
      submit="Make it the present key"
      isBlocked={props.rotation.secondary === undefined}
      onSubmit={async values => {
        const body = { suspendRest: values.has('suspendRest') };
        await api.act('POST', `${props.path}:promote-secondary`, { body });
        notify('The key was replaced');
        props.onChanged();
      }}
    >
      {props.rotation.connections.left > 0 && (
        <Checkbox
          name="suspendRest"
          label="Suspend the connections that are left, until they have new credentials"
        />
      )}
    </Form>
  );
}
