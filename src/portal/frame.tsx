import { useEffect, useRef } from 'preact/hooks';
import { environmentSchema, listOf, type Environment } from './api/records.ts';
import { AuditPage } from './pages/audit.tsx';
import { CodesPage } from './pages/codes.tsx';
import { ConnectionPage } from './pages/connection.tsx';
import { ConnectionsPage } from './pages/connections.tsx';
import { CreateEnvironment } from './pages/environment.tsx';
import { GroupPage } from './pages/group.tsx';
import { GroupsPage } from './pages/groups.tsx';
import { MachinePage } from './pages/machine.tsx';
import { MachinesPage } from './pages/machines.tsx';
import { NewConnectionPage } from './pages/new-connection.tsx';
import { NewRunPage } from './pages/new-run.tsx';
import { RunPage } from './pages/run.tsx';
import { RunsPage } from './pages/runs.tsx';
import { SchedulesPage } from './pages/schedules.tsx';
import { TriggersPage } from './pages/triggers.tsx';
import { PlaceProvider, useDirectory } from './place.ts';
import { go, href, route, type PageName, type Route } from './route.ts';
import { signOut, type Session } from './session.ts';
import { useLive } from './ui/live.ts';
import { Logo } from './ui/logo.tsx';
import { Empty } from './ui/parts.tsx';
import { ProblemBox } from './ui/problem-box.tsx';
import { TrustNote } from './ui/trust-note.tsx';

const TITLES: Readonly<Record<PageName, string>> = {
  machines: 'Machines',
  groups: 'Groups',
  connections: 'Connections',
  runs: 'Runs',
  schedules: 'Schedules',
  triggers: 'Webhooks',
  codes: 'Activation codes',
  audit: 'Audit',
};
const ENVIRONMENTS_EVERY_MS = 60_000;

/** What stands around every page: navigation, environment, whoever is signed in. */
export function Frame({ api, me }: Session) {
  const environments = useLive(
    'environments',
    signal =>
      api.get(listOf(environmentSchema), '/environments', { query: { limit: 200 }, signal }),
    ENVIRONMENTS_EVERY_MS,
  );
  const items = environments.value?.items;
  const now = route.value;
  const environment = now.environment ?? items?.[0]?.id;
  const isThere = items?.some(({ id }) => id === environment) === true;
  const isUnknown = items !== undefined && items.length > 0 && !isThere;
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={skip}>
        Skip to content
      </a>
      <header class="top">
        <span class="brand">
          <Logo /> <span>Halfway</span>
        </span>
        {items !== undefined && (
          <EnvironmentChoice items={items} environment={environment} page={now.page} />
        )}
        <span class="who">{me.name}</span>
        <button type="button" class="plain" onClick={() => signOut()}>
          Sign out
        </button>
      </header>
      <nav class="side" aria-label="Pages">
        {environment !== undefined &&
          Object.entries(TITLES).map(([page, title]) => (
            <a
              key={page}
              href={`#/${encodeURIComponent(environment)}/${page}`}
              aria-current={page === now.page ? 'page' : undefined}
            >
              {title}
            </a>
          ))}
      </nav>
      <main id="main" tabIndex={-1}>
        {environments.problem !== undefined && <ProblemBox problem={environments.problem} />}
        {items?.length === 0 && (
          <Empty title="There is no environment for you yet">
            <p>
              {me.isAdmin
                ? 'An environment holds machines, connections and runs, and who may use them.'
                : `Ask an administrator to give ${me.name} a role in one.`}
            </p>
            {me.isAdmin && <CreateEnvironment api={api} onCreated={environments.reload} />}
          </Empty>
        )}
        {isUnknown && (
          <Empty title={`There is no environment “${environment}” for you`}>
            <p>
              Choose another one above, or ask an administrator to give <code>{me.name}</code> a
              role in it.
            </p>
          </Empty>
        )}
        {environment !== undefined && isThere && (
          <InEnvironment key={environment} api={api} me={me} environment={environment} now={now} />
        )}
      </main>
      <footer class="foot">
        <TrustNote />
      </footer>
    </div>
  );
}

/** The address behind `#` is the page's own, so the link must not change it. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById('main')?.focus();
}

function EnvironmentChoice(props: {
  readonly items: readonly Environment[];
  readonly environment: string | undefined;
  readonly page: PageName;
}) {
  if (props.items.length === 0) return null;
  return (
    <label class="environment">
      <span>Environment</span>
      <select onChange={event => go(href(event.currentTarget.value, props.page))}>
        {!props.items.some(({ id }) => id === props.environment) && (
          <option selected>choose</option>
        )}
        {props.items.map(({ id, displayName }) => (
          <option key={id} value={id} selected={id === props.environment}>
            {displayName}
          </option>
        ))}
      </select>
    </label>
  );
}

function InEnvironment(props: Session & { readonly environment: string; readonly now: Route }) {
  const { api, me, environment, now } = props;
  const path = `/environments/${encodeURIComponent(environment)}`;
  const directory = useDirectory({ api, me }, path);
  const element = useRef<HTMLDivElement>(null);
  const where = `${now.page}/${now.id ?? ''}`;
  const isFirst = useRef(true);
  useEffect(() => {
    const title = TITLES[now.page];
    document.title = `${title} · ${environment} · Halfway`;
    // After a step to another page the focus begins at its title, as it would in a page that was loaded.
    if (!isFirst.current) {
      element.current?.querySelector<HTMLElement>('h1')?.focus();
      // Forms choose from it, and what was done on the page before may be new in it.
      directory.reload();
    }
    isFirst.current = false;
  }, [where, environment]);
  return (
    <PlaceProvider value={{ api, me, environment, path, directory }}>
      <div ref={element} key={where}>
        <Page {...now} />
      </div>
    </PlaceProvider>
  );
}

function Page({ page, id }: Route) {
  switch (page) {
    case 'machines':
      return id === undefined ? <MachinesPage /> : <MachinePage id={id} />;
    case 'groups':
      return id === undefined ? <GroupsPage /> : <GroupPage id={id} />;
    case 'connections':
      if (id === undefined) return <ConnectionsPage />;
      return id === 'new' ? <NewConnectionPage /> : <ConnectionPage id={id} />;
    case 'runs':
      if (id === undefined) return <RunsPage />;
      return id === 'new' ? <NewRunPage /> : <RunPage id={id} />;
    case 'schedules':
      return <SchedulesPage />;
    case 'triggers':
      return <TriggersPage />;
    case 'codes':
      return <CodesPage />;
    default:
      return <AuditPage />;
  }
}
