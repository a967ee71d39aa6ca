import { outputsSchema, runInputSchema, type Run } from '../api/records.ts';
import { usePlace } from '../place.ts';
import { useLive } from '../ui/live.ts';
import { Facts } from '../ui/parts.tsx';
import { isOver } from '../words.ts';

const NEVER_AGAIN_MS = 3_600_000;
/** Of outputs, which may have 32 MiB. */
const SHOWN_BYTES_MAX = 200_000;

/** What went into a run and what came out of it. */
export function RunData({ run, path }: { readonly run: Run; readonly path: string }) {
  return (
    <>
      <Input id={run.id} path={path} />
      {isOver(run.state) && run.output !== undefined && (
        <Outputs id={run.id} path={path} bytes={run.output.bytes} />
      )}
    </>
  );
}

function Input({ id, path }: { readonly id: string; readonly path: string }) {
  const { api } = usePlace();
  const { value } = useLive(
    `input ${id}`,
    signal => api.get(runInputSchema, `${path}/input`, { signal }),
    NEVER_AGAIN_MS,
  );
  if (value === undefined) return null;
  const { job, inputs, sealedInputs } = value;
  const sealed = Object.keys(sealedInputs);
  return (
    <section class="panel">
      <h2>What was asked</h2>
      <Facts
        rows={[
          ['Kind', job.kind],
          job.command === undefined ? undefined : ['Command', <Command words={job.command} />],
          ...Object.entries(inputs).map(
            ([name, input]) => [`Input ${name}`, <code>{JSON.stringify(input)}</code>] as const,
          ),
          sealed.length === 0 ? undefined : ['Sealed inputs', sealed.join(', ')],
        ]}
      />
    </section>
  );
}

function Command({ words }: { readonly words: readonly string[] }) {
  return (
    <pre tabIndex={0} aria-label="Command">
      {words.map(word => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word}'`)).join(' ')}
    </pre>
  );
}

function Outputs(props: { readonly id: string; readonly path: string; readonly bytes: number }) {
  const { api } = usePlace();
  const { value } = useLive(
    `outputs ${props.id}`,
    signal => api.get(outputsSchema, `${props.path}/outputs`, { signal }),
    NEVER_AGAIN_MS,
  );
  const text = value === undefined ? '' : JSON.stringify(value.outputs, undefined, 2);
  const sealed = Object.keys(value?.sealedOutputs ?? {});
  return (
    <section class="panel">
      <h2>Outputs</h2>
      <pre class="log" tabIndex={0} aria-label="Outputs of the run">
        {text.slice(0, SHOWN_BYTES_MAX)}
      </pre>
      {sealed.length > 0 && (
        <p class="quiet">Sealed, for whoever asked for the run: {sealed.join(', ')}</p>
      )}
      {text.length > SHOWN_BYTES_MAX && (
        <p class="quiet">
          Only the beginning is shown; there are {props.bytes} bytes. All of them:{' '}
          <code>halfway run show {props.id}</code>
        </p>
      )}
    </section>
  );
}
