import { useState } from 'preact/hooks';
import type { Connection } from '../api/records.ts';
import { targetName, usePlace } from '../place.ts';
import { Select, TextArea, TextField, textOf } from '../ui/fields.tsx';

type Program = 'script' | 'program';

/** Where something runs, as whom, and what. `at`: what stands before these members in what is sent, such as `run.`. */
export function JobFields(props: {
  readonly connections: readonly Connection[];
  readonly connectionId?: string;
  readonly onConnection?: (id: string) => void;
  readonly at?: string;
}) {
  const { directory } = usePlace();
  const [program, setProgram] = useState<Program>('script');
  const at = props.at ?? '';
  return (
    <>
      <Select
        label="Connection"
        name="connectionId"
        path={`${at}connectionId`}
        isRequired
        value={props.connectionId ?? ''}
        {...(props.onConnection === undefined ? {} : { onChange: props.onConnection })}
        options={[
          { value: '', label: 'Choose where it runs and as whom' },
          ...props.connections.map(({ id, name, target }) => ({
            value: id,
            label: `${name} (${targetName(directory, target)})`,
          })),
        ]}
      />
      <TextField
        label="Name of the job"
        name="ref"
        path={`${at}job.ref`}
        isRequired
        hint="For you to know it by in lists."
      />
      <Select
        label="What runs"
        name="program"
        value={program}
        options={[
          { value: 'script', label: 'A shell script' },
          { value: 'program', label: 'A program with arguments' },
        ]}
        onChange={value => setProgram(value === 'script' ? 'script' : 'program')}
      />
      {program === 'script' ? (
        <TextArea
          label="Script"
          name="script"
          path={`${at}job`}
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
            path={`${at}job`}
            isRequired
            hint="Its path, or its name."
          />
          <TextArea
            label="Arguments"
            name="arguments"
            path={`${at}job.command`}
            rows={4}
            isCode
            hint="One a line, as they are: there is no quoting."
          />
        </>
      )}
    </>
  );
}

/** What was typed into `JobFields`, as the API takes it. */
export function jobOf(values: FormData): object {
  return {
    connectionId: textOf(values, 'connectionId') ?? '',
    job: { ref: textOf(values, 'ref') ?? '', kind: 'command', command: commandOf(values) },
  };
}

function commandOf(values: FormData): readonly string[] {
  const script = textOf(values, 'script');
  if (script !== undefined) return ['/bin/sh', '-c', lines(script)];
  const given = textOf(values, 'arguments');
  const args = given === undefined ? [] : lines(given).replace(/\n$/, '').split('\n');
  return [textOf(values, 'path') ?? '', ...args];
}

/** Forms send CRLF. */
function lines(text: string): string {
  return text.replaceAll('\r\n', '\n');
}
