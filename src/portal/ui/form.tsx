import { createContext, type ComponentChildren } from 'preact';
import { useContext, useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { DispatchError, FieldFault } from '../../dispatch-client/dispatch-error.ts';
import { toProblem } from '../api/problem.ts';
import { ProblemBox } from './problem-box.tsx';

interface FormState {
  readonly faults: readonly FieldFault[];
  /** Paths that a field shows the faults of. */
  readonly shown: Set<string>;
}

const FormContext = createContext<FormState>({ faults: [], shown: new Set() });

/**
 * A form that sends by itself: its button waits while `onSubmit` does, and what that rejects with is shown,
 * each fault beside its field and the rest above the buttons. The first field at fault gets the focus.
 */
export function Form(props: {
  readonly onSubmit: (values: FormData) => Promise<void>;
  readonly submit: string;
  readonly onCancel?: () => void;
  readonly tone?: 'danger';
  readonly isBlocked?: boolean;
  readonly children?: ComponentChildren;
}) {
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<DispatchError>();
  const form = useRef<HTMLFormElement>(null);
  const shown = useRef(new Set<string>());
  // Not earlier: fields say what is wrong with them only after the form was drawn again.
  useEffect(() => {
    if (problem === undefined) return;
    const first = form.current?.querySelector<HTMLElement>('[aria-invalid=true], [role=alert]');
    const folded = first?.closest('details');
    if (folded !== undefined && folded !== null) folded.open = true;
    first?.focus();
  }, [problem]);

  const submit = async (element: HTMLFormElement): Promise<void> => {
    setBusy(true);
    setProblem(undefined);
    try {
      await props.onSubmit(new FormData(element));
    } catch (error) {
      setProblem(toProblem(error));
    }
    setBusy(false);
  };
  return (
    <FormContext.Provider value={{ faults: problem?.faults ?? [], shown: shown.current }}>
      <form
        ref={form}
        aria-busy={isBusy}
        onSubmit={event => {
          event.preventDefault();
          if (!isBusy) void submit(event.currentTarget);
        }}
      >
        {props.children}
        {problem !== undefined && <OtherFaults problem={problem} />}
        <div class="buttons">
          <button
            class={props.tone === 'danger' ? 'danger' : 'primary'}
            aria-disabled={isBusy}
            disabled={props.isBlocked === true}
          >
            {isBusy ? 'One moment…' : props.submit}
          </button>
          {props.onCancel !== undefined && (
            <button type="button" onClick={props.onCancel}>
              Cancel
            </button>
          )}
        </div>
      </form>
    </FormContext.Provider>
  );
}

/** What no field shows: those have said so when they were drawn first. */
function OtherFaults({ problem }: { readonly problem: DispatchError }) {
  const { faults, shown } = useContext(FormContext);
  const others = faults.filter(({ path }) => ![...shown].some(own => belongs(path, own)));
  return <ProblemBox problem={problem} faults={others} />;
}

function belongs(path: string, own: string): boolean {
  return path === own || path.startsWith(`${own}.`) || path.startsWith(`${own}[`);
}

export interface FieldProps {
  readonly label: string;
  readonly name: string;
  /** Where the API says a fault of it is; its name unless told otherwise. */
  readonly path?: string;
  readonly hint?: ComponentChildren;
}

/** What a control needs to be known by: its id, and what describes it. */
export interface ControlProps {
  readonly id: string;
  readonly name: string;
  readonly 'aria-describedby': string | undefined;
  readonly 'aria-invalid': boolean;
}

/** Label, control, hint and faults, tied together for those who hear the page. */
export function Field(
  props: FieldProps & { readonly control: (of: ControlProps) => ComponentChildren },
) {
  const id = useId();
  const { faults, shown } = useContext(FormContext);
  const path = props.path ?? props.name;
  useLayoutEffect(() => {
    shown.add(path);
    return () => {
      shown.delete(path);
    };
  }, [path]);
  const own = faults.filter(fault => belongs(fault.path, path));
  const notes = [
    ...(props.hint === undefined ? [] : [`${id}-hint`]),
    ...(own.length > 0 ? [`${id}-fault`] : []),
  ];
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      {props.control({
        id,
        name: props.name,
        'aria-describedby': notes.length === 0 ? undefined : notes.join(' '),
        'aria-invalid': own.length > 0,
      })}
      {props.hint !== undefined && (
        <p class="hint" id={`${id}-hint`}>
          {props.hint}
        </p>
      )}
      {own.length > 0 && (
        <p class="fault" id={`${id}-fault`}>
          {own.map(({ message }) => message).join('; ')}
        </p>
      )}
    </div>
  );
}
