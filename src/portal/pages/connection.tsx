import { fingerprintOf } from '../../crypto/fingerprint.ts';
import { connectionSchema, type Connection } from '../api/records.ts';
import { targetName, usePlace } from '../place.ts';
import { go, href } from '../route.ts';
import { Confirm, DialogButton } from '../ui/confirm.tsx';
import { useLive } from '../ui/live.ts';
import { Ago, Facts, notify, PageHead } from '../ui/parts.tsx';
import { LiveNote } from '../ui/problem-box.tsx';
import { codeText, connectionKindText } from '../words.ts';
import { AccessPanel } from './access.tsx';
import { ActsAsWarning } from './credential-fields.tsx';
import { EditConnection, NewCredentials } from './edit-connection.tsx';
import { TestConnection } from './test-connection.tsx';

export function ConnectionPage({ id }: { readonly id: string }) {
  const { api, path, environment, directory } = usePlace();
  const own = `${path}/connections/${encodeURIComponent(id)}`;
  const { value, problem, reload } = useLive(`connection ${id}`, signal =>
    api.get(connectionSchema, own, { signal }),
  );
  const above = <a href={href(environment, 'connections')}>Connections</a>;
  if (value === undefined) {
    return (
      <>
        <PageHead title="Connection" above={above} />
        <LiveNote value={value} problem={problem} />
      </>
    );
  }
  return (
    <>
      <PageHead title={value.name} above={above}>
        <a class="button primary" href={href(environment, 'runs', 'new', { connection: id })}>
          Run a job
        </a>
        <DialogButton
          label="Test…"
          dialog={close => <TestConnection connection={value} onClose={close} />}
        />
        <DialogButton
          label="Edit"
          dialog={close => <EditConnection connection={value} onDone={reload} onClose={close} />}
        />
        {value.kind !== 'none' && (
          <DialogButton
            label="New credentials"
            dialog={close => <NewCredentials connection={value} onDone={reload} onClose={close} />}
          />
        )}
      </PageHead>
      <LiveNote value={value} problem={problem} />
      <Suspension connection={value} />
      <ConnectionFacts connection={value} />
      <ActsAsWarning />
      <AccessPanel
        owner={value.owner}
        access={value.access}
        path={own}
        grants={['co-owner', 'edit', 'use']}
        onChanged={reload}
      />
      <section class="panel">
        <h2>Delete</h2>
        <p>The sealed credentials are deleted with it, and runs that wait for it fail.</p>
        <DialogButton
          label="Delete connection…"
          class="danger"
          dialog={close => (
            <Confirm
              title={`Delete ${value.name}?`}
              action="Delete connection"
              typed={value.name}
              onClose={close}
              onConfirm={async () => {
                await api.act('DELETE', own, { ifMatch: value.version });
                notify(`${value.name} was deleted`);
                directory.reload();
                go(href(environment, 'connections'));
              }}
            >
              <p>This cannot be undone.</p>
            </Confirm>
          )}
        />
      </section>
    </>
  );
}

function Suspension({ connection }: { readonly connection: Connection }) {
  const { suspended } = connection;
  if (suspended === undefined) return null;
  return (
    <div class="box bad">
      <p>
        <strong>Suspended.</strong> {codeText(suspended.code)} (<code>{suspended.code}</code>
        {suspended.at !== undefined && (
          <>
            , <Ago moment={suspended.at} />
          </>
        )}
        ). Nothing runs with it until it has new credentials: trying again would lock the account.
      </p>
    </div>
  );
}

function ConnectionFacts({ connection }: { readonly connection: Connection }) {
  const { environment, directory } = usePlace();
  const { target, kid, kind } = connection;
  return (
    <Facts
      rows={[
        [
          'Target',
          <>
            <a
              href={href(environment, target.kind === 'machine' ? 'machines' : 'groups', target.id)}
            >
              {targetName(directory, target)}
            </a>{' '}
            ({target.kind})
          </>,
        ],
        ['Signs in with', connectionKindText(kind)],
        ['Account', connection.accountName ?? 'not told to the server'],
        kid === undefined
          ? undefined
          : [
              'Credentials',
              <>
                version {connection.credentialVersion}, sealed to{' '}
                <code class="fingerprint">{fingerprintOf(kid)}</code>
              </>,
            ],
        ['Runs with the rights of', <code>{connection.runOwner ?? connection.owner}</code>],
        ['Changed', <Ago moment={connection.updatedAt} />],
        ['Id', <code>{connection.id}</code>],
      ]}
    />
  );
}
