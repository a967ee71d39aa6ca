import { useState } from 'preact/hooks';
import { feedOf, progressSchema, runSchema, type Progress, type Run } from '../api/records.ts';
import { connectionName, machineName, targetName, usePlace } from '../place.ts';
import { href } from '../route.ts';
import { durationBetween } from '../times.ts';
import { useLive, useTick } from '../ui/live.ts';
import { Ago, Facts, PageHead } from '../ui/parts.tsx';
import { LiveNote } from '../ui/problem-box.tsx';
import { Table } from '../ui/table.tsx';
import { codeText, isOver, runStateWord } from '../words.ts';
import { RunActions } from './run-actions.tsx';
import { RunData } from './run-data.tsx';
import { RunEvents } from './run-events.tsx';
import { RunLog } from './run-log.tsx';

const SECOND_MS = 1_000;
const LIVE_MS = 2_000;
const OVER_MS = 30_000;

export function RunPage({ id }: { readonly id: string }) {
  const { api, path, environment } = usePlace();
  const own = `${path}/runs/${encodeURIComponent(id)}`;
  const [everyMs, setEveryMs] = useState(LIVE_MS);
  const { value, problem, reload } = useLive(
    `run ${id}`,
    signal => api.get(runSchema, own, { signal }),
    everyMs,
  );
  useTick(SECOND_MS);
  const above = <a href={href(environment, 'runs')}>Runs</a>;
  if (value === undefined) {
    return (
      <>
        <PageHead title="Run" above={above} />
        <LiveNote value={value} problem={problem} />
      </>
    );
  }
  const pace = isOver(value.state) ? OVER_MS : LIVE_MS;
  if (pace !== everyMs) setEveryMs(pace);
  return (
    <>
      <PageHead title={value.jobRef} above={above} badge={runStateWord(value.state)}>
        <RunActions run={value} path={own} onChanged={reload} />
      </PageHead>
      <p class="unseen" role="status">
        The run is {runStateWord(value.state).label.toLowerCase()}
      </p>
      <LiveNote value={value} problem={problem} />
      <Fault run={value} />
      {!isOver(value.state) && value.startedAt !== undefined && <ProgressBar path={own} id={id} />}
      <RunFacts run={value} />
      <Answers run={value} />
      <RunLog path={own} id={id} />
      <RunEvents path={own} id={id} onNews={reload} />
      <RunData run={value} path={own} />
    </>
  );
}

function Fault({ run }: { readonly run: Run }) {
  const { fault, innerError } = run;
  if (fault === undefined) return null;
  return (
    <div class="box bad">
      <p>
        <strong>{codeText(fault.code)}.</strong> <code>{fault.code}</code>
        {fault.subCode !== undefined && (
          <>
            {' '}
            because of <code>{fault.subCode}</code>: {codeText(fault.subCode)}.
          </>
        )}
      </p>
      {fault.message !== undefined && <p>{fault.message}</p>}
      {innerError !== undefined && (
        <details>
          <summary>What the machine says of it</summary>
          <pre tabIndex={0}>{innerError}</pre>
        </details>
      )}
    </div>
  );
}

function ProgressBar({ path, id }: { readonly path: string; readonly id: string }) {
  const { api } = usePlace();
  const [last, setLast] = useState<Progress>();
  const [after, setAfter] = useState(0);
  useLive(
    `progress ${id}`,
    async signal => {
      const page = await api.get(feedOf(progressSchema), `${path}/progress`, {
        query: { after },
        signal,
      });
      setAfter(page.next);
      const latest = page.items.at(-1);
      if (latest !== undefined) setLast(latest);
      return true;
    },
    LIVE_MS,
  );
  if (last === undefined) return null;
  const { step, done, total, text } = last;
  return (
    <div class="progress">
      <label>
        <span>
          {step}
          {text !== undefined && <>: {text}</>}
        </span>
        {done !== undefined && total !== undefined ? (
          <progress value={done} max={total} />
        ) : (
          <progress />
        )}
      </label>
    </div>
  );
}

function RunFacts({ run }: { readonly run: Run }) {
  const { environment, directory } = usePlace();
  const { target, machineId } = run;
  const targetPage = target.kind === 'machine' ? 'machines' : 'groups';
  return (
    <Facts
      rows={[
        [
          'Where',
          <>
            <a href={href(environment, targetPage, target.id)}>{targetName(directory, target)}</a>
            {machineId !== undefined && machineId !== target.id && (
              <>
                {' '}
                on{' '}
                <a href={href(environment, 'machines', machineId)}>
                  {machineName(directory, machineId)}
                </a>
              </>
            )}
          </>,
        ],
        [
          'Connection',
          <a href={href(environment, 'connections', run.connectionId)}>
            {connectionName(directory, run.connectionId)}
          </a>,
        ],
        run.accountName === undefined ? undefined : ['Ran as', run.accountName],
        ['Asked by', <code>{run.owner}</code>],
        ['Queued', <Ago moment={run.queuedAt} />],
        run.startedAt === undefined
          ? ['Waits until', <Ago moment={run.queueUntil} />]
          : ['Started', <Ago moment={run.startedAt} />],
        run.startedAt === undefined
          ? undefined
          : ['Took', durationBetween(run.startedAt, run.endedAt)],
        run.exitCode === undefined ? undefined : ['Exit code', String(run.exitCode)],
        [
          'Priority',
          run.topScore === undefined ? run.priority : `${run.priority}, moved to the top`,
        ],
        ['Session', run.mode],
        ['Attempt', String(run.attempt)],
        run.cancel === undefined
          ? undefined
          : [
              'Asked to end',
              <>
                {run.cancel.mode} by <code>{run.cancel.by}</code>
              </>,
            ],
        ['Id', <code>{run.id}</code>],
      ]}
    />
  );
}

/** Why it still waits: what each machine last said to it. */
function Answers({ run }: { readonly run: Run }) {
  const { directory } = usePlace();
  const rows = Object.entries(run.answers);
  if (rows.length === 0 || run.startedAt !== undefined) return null;
  return (
    <section class="panel">
      <h2>What machines answered</h2>
      <Table
        caption="The last answer of each machine"
        rows={rows}
        keyOf={([machineId]) => machineId}
        columns={[
          { title: 'Machine', cell: ([machineId]) => machineName(directory, machineId) },
          {
            title: 'Answer',
            cell: ([, { code, message }]) => (
              <>
                {message ?? codeText(code)} <code class="note">{code}</code>
              </>
            ),
          },
          { title: 'When', cell: ([, { at }]) => at !== undefined && <Ago moment={at} /> },
          { title: 'Times', isNumber: true, cell: ([, { times }]) => times ?? '' },
        ]}
      />
    </section>
  );
}
