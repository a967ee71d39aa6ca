import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { RUN_SECONDS_DEFAULT, RUN_SECONDS_MAX } from '../../jobs/limits.ts';
import { runSchema } from '../api/records.ts';
import { newId, targetName, usePlace } from '../place.ts';
import { go, href, route } from '../route.ts';
import { pinKey } from '../sealing.ts';
import { NumberField, numberOf, Select, TextArea, TextField, textOf } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { Empty, notify, PageHead } from '../ui/parts.tsx';
import { ActsAsWarning } from './credential-fields.tsx';
import { useSameBody } from '../ui/same-body.ts';
import { inputsOf, InputRows, type RunInputs } from './input-rows.tsx';
import { KeyCheck, useTargetKey } from './key-check.tsx';

const MINUTE_SECONDS = 60;
const QUEUE_MINUTES_MAX = 7 * 24 * 60;

type Program = 'script' | 'program';

export function NewRunPage() {
  const { api, path, environment, directory } = usePlace();
  const { query } = route.value;
  const [program, setProgram] = useState<Program>('script');
  const [id] = useState(newId);
  const [connectionId, setConnectionId] = useState(query.get('connection') ?? '');
  const [hasSealed, setHasSealed] = useState(false);
  const sameBody = useSameBody<RunInputs>();
  const target = directory.connections.get(connectionId)?.target;
  const checked = useTargetKey(hasSealed ? target : undefined);
  const above = <a href={href(environment, 'runs')}>Runs</a>;
  if (!directory.isLoaded) return <PageHead title="Start a run" above={above} />;
  const wanted = query.get('target');
  const connections = [...directory.connections.values()].filter(
    ({ target: { kind, id: own } }) => wanted === null || wanted === `${kind}:${own}`,
  );
  if (connections.length === 0) return <NoConnection above={above} target={wanted} />;

  const start = async (values: FormData): Promise<void> => {
    const minutes = numberOf(values, 'queueTimeoutSeconds');
    const given = await sameBody(values, checked.key?.holder.kid, () =>
      inputsOf(values, checked.key, id),
    );
    const run = await api.change(runSchema, 'POST', `${path}/runs`, {
      idempotencyKey: id,
      body: {
        id: id,
        connectionId: textOf(values, 'connectionId') ?? '',
        job: {
          ref: textOf(values, 'ref') ?? '',
          kind: 'command',
          command: commandOf(values, program),
        },
        mode: textOf(values, 'mode'),
        priority: textOf(values, 'priority'),
        timeoutSeconds: numberOf(values, 'timeoutSeconds'),
        queueTimeoutSeconds: minutes === undefined ? undefined : minutes * MINUTE_SECONDS,
        whenOffline: textOf(values, 'whenOffline'),
        onLost: textOf(values, 'onLost'),
        ...given,
      },
    });
    if (target !== undefined && checked.key !== undefined) {
      pinKey(environment, target, checked.key.holder.kid);
    }
    notify('The run is queued');
    go(href(environment, 'runs', run.id));
  };

  return (
    <>
      <PageHead title="Start a run" above={above} />
      <Form submit="Start run" onCancel={() => go(href(environment, 'runs'))} onSubmit={start}>
        <Select
          label="Connection"
          name="connectionId"
          isRequired
          value={connectionId}
          onChange={setConnectionId}
          options={[
            { value: '', label: 'Choose where it runs and as whom' },
            ...connections.map(connection => ({
              value: connection.id,
              label: `${connection.name} (${targetName(directory, connection.target)})`,
            })),
          ]}
        />
        <ActsAsWarning />
        <TextField
          label="Name of the job"
          name="ref"
          path="job.ref"
          isRequired
          hint="For you to know it by in lists."
        />
        <Command program={program} onChange={setProgram} />
        <InputRows onSealed={setHasSealed} />
        {hasSealed && target !== undefined && <KeyCheck target={target} checked={checked} />}
        <details class="more">
          <summary>Time, priority and what happens when something fails</summary>
          <div class="row">
            <NumberField
              label="Ended after"
              name="timeoutSeconds"
              value={RUN_SECONDS_DEFAULT}
              min={1}
              max={RUN_SECONDS_MAX}
              unit="seconds"
            />
            <NumberField
              label="Waits at most"
              name="queueTimeoutSeconds"
              min={1}
              max={QUEUE_MINUTES_MAX}
              unit="minutes"
              hint="12 hours when left empty."
            />
          </div>
          <div class="row">
            <Select
              label="Priority"
              name="priority"
              value="normal"
              options={[
                { value: 'normal', label: 'Normal' },
                { value: 'high', label: 'High: before all normal ones' },
              ]}
            />
            <Select
              label="Session"
              name="mode"
              value="unattended"
              options={[
                { value: 'unattended', label: 'Unattended: in a session of its own' },
                { value: 'attended', label: 'Attended: in the session of whoever is signed in' },
              ]}
            />
          </div>
          <div class="row">
            <Select
              label="When the machine is not connected"
              name="whenOffline"
              value="queue"
              options={[
                { value: 'queue', label: 'Wait for it' },
                { value: 'fail', label: 'Fail at once' },
              ]}
            />
            <Select
              label="When the machine is lost during the run"
              name="onLost"
              value="fail"
              options={[
                { value: 'fail', label: 'End as lost' },
                { value: 'requeue', label: 'Run it again: what it did may happen twice' },
              ]}
            />
          </div>
        </details>
      </Form>
    </>
  );
}

function Command(props: {
  readonly program: Program;
  readonly onChange: (program: Program) => void;
}) {
  return (
    <>
      <Select
        label="What runs"
        name="program"
        value={props.program}
        options={[
          { value: 'script', label: 'A shell script' },
          { value: 'program', label: 'A program with arguments' },
        ]}
        onChange={value => props.onChange(value === 'script' ? 'script' : 'program')}
      />
      {props.program === 'script' ? (
        <TextArea
          label="Script"
          name="script"
          path="job"
          rows={5}
          isCode
          isRequired
          hint={
            <>
              Run by <code>/bin/sh -c</code>, as the account of the connection.
            </>
          }
        />
      ) : (
        <>
          <TextField
            label="Program"
            name="path"
            path="job"
            isRequired
            hint="Its path, or its name."
          />
          <TextArea
            label="Arguments"
            name="arguments"
            path="job.command"
            rows={4}
            isCode
            hint="One a line, as they are: there is no quoting."
          />
        </>
      )}
    </>
  );
}

function commandOf(values: FormData, program: Program): readonly string[] {
  if (program === 'script') return ['/bin/sh', '-c', lines(textOf(values, 'script') ?? '')];
  const given = textOf(values, 'arguments');
  const args = given === undefined ? [] : lines(given).replace(/\n$/, '').split('\n');
  return [textOf(values, 'path') ?? '', ...args];
}

/** Forms send CRLF. */
function lines(text: string): string {
  return text.replaceAll('\r\n', '\n');
}

/** Source: job-dispatch.md section 1, row A14. */
function NoConnection(props: {
  readonly above: ComponentChildren;
  readonly target: string | null;
}) {
  const { environment } = usePlace();
  const query = props.target === null ? {} : { target: props.target };
  return (
    <>
      <PageHead title="Start a run" above={props.above} />
      <Empty title="A run needs a connection, and there is none yet">
        <p>A connection says where the run goes and which account it runs as.</p>
        <a class="button primary" href={href(environment, 'connections', 'new', query)}>
          Create a connection
        </a>
      </Empty>
    </>
  );
}
