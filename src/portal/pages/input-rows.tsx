import { useState } from 'preact/hooks';
import type { Envelope } from '../../crypto/envelope.ts';
import { sealInput, type TargetKey } from '../../dispatch-client/sealing.ts';
import { faultAt } from '../api/problem.ts';
import { Checkbox, TextField, textOf } from '../ui/fields.tsx';

/**
 * Names and values that the job is given. A sealed one leaves the page for the key of the connection's target
 * alone; `onSealed` says whether there is one.
 */
export function InputRows({ onSealed }: { readonly onSealed: (hasSealed: boolean) => void }) {
  const [rows, setRows] = useState<readonly number[]>([]);
  const [sealed, setSealed] = useState<ReadonlySet<number>>(new Set());
  const [count, setCount] = useState(0);
  const change = (shown: readonly number[], marked: ReadonlySet<number>): void => {
    setRows(shown);
    setSealed(marked);
    onSealed(shown.some(row => marked.has(row)));
  };
  return (
    <fieldset>
      <legend>Inputs</legend>
      <p class="hint">
        The job gets them as JSON on its standard input. The server sees inputs and keeps them with
        the run, except those that you seal: these only the target of the connection can open.
      </p>
      {rows.map(row => (
        <div key={row} class="row input-row">
          <TextField label="Name" name={`input-name-${row}`} isRequired hasFocus />
          <TextField
            label="Value"
            name={`input-value-${row}`}
            path="inputs"
            type={sealed.has(row) ? 'password' : 'text'}
          />
          <Checkbox
            name={`input-sealed-${row}`}
            label="Seal"
            onChange={isSealed => {
              const others = [...sealed].filter(other => other !== row);
              change(rows, new Set(isSealed ? [...others, row] : others));
            }}
          />
          <button
            type="button"
            onClick={() => {
              change(
                rows.filter(other => other !== row),
                sealed,
              );
            }}
          >
            Remove<span class="unseen"> this input</span>
          </button>
        </div>
      ))}
      <button
        type="button"
        onClick={() => {
          change([...rows, count], sealed);
          setCount(count + 1);
        }}
      >
        Add an input
      </button>
    </fieldset>
  );
}

export interface RunInputs {
  readonly inputs: Readonly<Record<string, unknown>>;
  readonly sealedInputs: Readonly<Record<string, Envelope>>;
}

/** What was typed into `InputRows`; values are JSON where they are JSON, text otherwise. */
export async function inputsOf(
  values: FormData,
  key: TargetKey | undefined,
  runId: string,
): Promise<RunInputs> {
  const inputs: Record<string, unknown> = {};
  const sealedInputs: Record<string, Envelope> = {};
  for (const [field, name] of values) {
    const row = /^input-name-(\d+)$/.exec(field)?.[1];
    if (row === undefined || typeof name !== 'string') continue;
    if (name in inputs || name in sealedInputs) {
      throw faultAt('inputs', `there are two of the name "${name}"`);
    }
    const value = valueOf(textOf(values, `input-value-${row}`) ?? '');
    if (!values.has(`input-sealed-${row}`)) inputs[name] = value;
    else if (key === undefined) throw faultAt('connectionId', 'has no key to seal inputs to');
    else sealedInputs[name] = await sealInput(key, { runId, name }, value);
  }
  return { inputs, sealedInputs };
}

function valueOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Most people type a text and mean that text.
    return text;
  }
}
