import { useState } from 'preact/hooks';
import { scheduleSchema, type Schedule } from '../api/automation-records.ts';
import { connectionName, newId, usePlace } from '../place.ts';
import { href } from '../route.ts';
import { durationText } from '../times.ts';
import { Dialog } from '../ui/dialog.tsx';
import { NumberField, numberOf, Select, TextField, textOf } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { Ago, notify } from '../ui/parts.tsx';
import { Table } from '../ui/table.tsx';
import { AutomationPage, DeleteAutomation, EnabledSwitch } from './automation.tsx';
import { JobFields, jobOf } from './job-fields.tsx';
import { limitsOf, RunLimits } from './run-limits.tsx';

const MINUTE_SECONDS = 60;
const EVERY_MINUTES_MAX = 366 * 24 * 60;
const OUTCOMES: Readonly<Record<string, string>> = {
  started: 'started a run',
  failed: 'could not start a run',
  missed: 'was missed: nobody was there',
};

/** Runs that are started by the time. */
export function SchedulesPage() {
  return (
    <AutomationPage
      kind="schedules"
      schema={scheduleSchema}
      title="Schedules"
      one="a schedule"
      explanation="A schedule starts a run at times that you set, with the rights of whoever set it."
      create={(reload, close) => <CreateSchedule onCreated={reload} onClose={close} />}
      table={(rows, reload) => <ScheduleTable rows={rows} onChanged={reload} />}
    />
  );
}

function ScheduleTable(props: {
  readonly rows: readonly Schedule[];
  readonly onChanged: () => void;
}) {
  const { environment, directory } = usePlace();
  return (
    <Table
      caption="Schedules"
      rows={props.rows}
      keyOf={({ id }) => id}
      columns={[
        {
          title: 'Name',
          cell: ({ name, run }) => (
            <>
              {name} <span class="note">{run.job.ref}</span>
            </>
          ),
        },
        { title: 'When', cell: whenText },
        { title: 'Next', cell: ({ nextAt }) => <Next moment={nextAt} /> },
        {
          title: 'Last',
          cell: ({ last }) =>
            last !== undefined && (
              <>
                <Ago moment={last.at} />{' '}
                {last.runId === undefined ? (
                  (OUTCOMES[last.outcome] ?? last.outcome)
                ) : (
                  <a href={href(environment, 'runs', last.runId)}>started a run</a>
                )}
                {last.code !== undefined && <code class="note">{last.code}</code>}
              </>
            ),
        },
        { title: 'Connection', cell: ({ run }) => connectionName(directory, run.connectionId) },
        { title: 'Rights of', cell: ({ runOwner }) => <code>{runOwner}</code> },
        {
          title: 'Switch',
          cell: record => (
            <EnabledSwitch record={record} kind="schedules" onChanged={props.onChanged} />
          ),
        },
        {
          title: 'Delete',
          cell: record => (
            <DeleteAutomation record={record} kind="schedules" onChanged={props.onChanged} />
          ),
        },
      ]}
    />
  );
}

function Next({ moment }: { readonly moment: string | undefined }) {
  return moment === undefined ? <span class="quiet">off</span> : <Ago moment={moment} />;
}

function whenText({ cron, timeZone, everySeconds }: Schedule) {
  if (everySeconds !== undefined) return `every ${durationText(everySeconds * 1_000)}`;
  return (
    <>
      <code>{cron}</code> <span class="note">{timeZone}</span>
    </>
  );
}

function CreateSchedule(props: { readonly onCreated: () => void; readonly onClose: () => void }) {
  const { api, path, directory } = usePlace();
  const [idempotencyKey] = useState(newId);
  const [timing, setTiming] = useState('cron');
  return (
    <Dialog title="Create a schedule" onClose={props.onClose}>
      <Form
        submit="Create schedule"
        onCancel={props.onClose}
        onSubmit={async values => {
          const minutes = numberOf(values, 'everySeconds');
          await api.act('POST', `${path}/schedules`, {
            idempotencyKey,
            body: {
              name: textOf(values, 'name') ?? '',
              cron: textOf(values, 'cron'),
              timeZone: textOf(values, 'timeZone'),
              everySeconds: minutes === undefined ? undefined : minutes * MINUTE_SECONDS,
              onMissed: textOf(values, 'onMissed'),
              run: { ...jobOf(values), ...limitsOf(values) },
            },
          });
          notify('The schedule is on');
          props.onCreated();
          props.onClose();
        }}
      >
        <TextField label="Name" name="name" isRequired hasFocus />
        <Select
          label="Starts"
          name="timing"
          value={timing}
          options={[
            { value: 'cron', label: 'At times of the clock (cron)' },
            { value: 'every', label: 'Every so many minutes' },
          ]}
          onChange={setTiming}
        />
        {timing === 'cron' ? (
          <div class="row">
            <TextField
              label="Times"
              name="cron"
              isRequired
              value="0 6 * * 1-5"
              hint="Minute, hour, day of the month, month, day of the week."
            />
            <TextField
              label="Time zone"
              name="timeZone"
              value={new Intl.DateTimeFormat().resolvedOptions().timeZone}
              hint="Such as Europe/Berlin; UTC when left empty."
            />
          </div>
        ) : (
          <NumberField
            label="Every"
            name="everySeconds"
            value={60}
            min={1}
            max={EVERY_MINUTES_MAX}
            unit="minutes"
          />
        )}
        <Select
          label="Times at which the server was away"
          name="onMissed"
          value="skip"
          options={[
            { value: 'skip', label: 'Leave them out' },
            { value: 'once', label: 'One run for all of them' },
          ]}
        />
        <JobFields connections={[...directory.connections.values()]} at="run." />
        <RunLimits at="run." />
      </Form>
    </Dialog>
  );
}
