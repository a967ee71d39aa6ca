import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';
import { Field, type FieldProps } from './form.tsx';

// The kinds of fields there are. None is controlled: a form reads them when it is sent.

export function TextField(
  props: FieldProps & {
    readonly value?: string;
    readonly isRequired?: boolean;
    readonly type?: 'text' | 'password';
    /** When it comes. */
    readonly hasFocus?: boolean;
    readonly pattern?: string;
    readonly onInput?: (value: string) => void;
  },
) {
  const focused = useRef<HTMLInputElement>(null);
  // The attribute for this counts only while a page loads.
  useEffect(() => {
    if (props.hasFocus === true) focused.current?.focus();
  }, []);
  return (
    <Field
      {...props}
      control={of => {
        const shared = {
          ...of,
          defaultValue: props.value ?? '',
          required: props.isRequired === true,
          ref: focused,
          spellcheck: false,
          ...(props.pattern === undefined ? {} : { pattern: props.pattern }),
          onInput: (event: { readonly currentTarget: HTMLInputElement }) =>
            props.onInput?.(event.currentTarget.value),
        };
        // A secret is not for the browser to keep, and not for it to fill in.
        return props.type === 'password' ? (
          <input {...shared} type="password" autocomplete="new-password" />
        ) : (
          <input {...shared} type="text" autocomplete="off" />
        );
      }}
    />
  );
}

export function NumberField(
  props: FieldProps & {
    readonly value?: number;
    readonly min: number;
    readonly max: number;
    readonly unit?: string;
  },
) {
  return (
    <Field
      {...props}
      control={of => (
        <span class="with-unit">
          <input
            {...of}
            type="number"
            defaultValue={props.value === undefined ? '' : String(props.value)}
            min={props.min}
            max={props.max}
            step={1}
          />
          {props.unit}
        </span>
      )}
    />
  );
}

export function TextArea(
  props: FieldProps & {
    readonly value?: string;
    readonly rows?: number;
    readonly isRequired?: boolean;
    readonly isCode?: boolean;
  },
) {
  return (
    <Field
      {...props}
      control={of => (
        <textarea
          {...of}
          class={props.isCode === true ? 'code' : ''}
          rows={props.rows ?? 3}
          required={props.isRequired === true}
          spellcheck={false}
          defaultValue={props.value ?? ''}
        />
      )}
    />
  );
}

export function Select(
  props: FieldProps & {
    readonly value?: string;
    readonly options: readonly { readonly value: string; readonly label: string }[];
    readonly isRequired?: boolean;
    readonly onChange?: (value: string) => void;
  },
) {
  return (
    <Field
      {...props}
      control={of => (
        <select
          {...of}
          required={props.isRequired === true}
          onChange={event => props.onChange?.(event.currentTarget.value)}
        >
          {props.options.map(({ value, label }) => (
            <option key={value} value={value} selected={value === (props.value ?? '')}>
              {label}
            </option>
          ))}
        </select>
      )}
    />
  );
}

export function Checkbox(props: {
  readonly name: string;
  readonly label: ComponentChildren;
  readonly hint?: ComponentChildren;
  readonly isChecked?: boolean;
  readonly isRequired?: boolean;
  readonly onChange?: (isChecked: boolean) => void;
}) {
  const id = useId();
  return (
    <div class="field check">
      <input
        id={id}
        type="checkbox"
        name={props.name}
        defaultChecked={props.isChecked === true}
        required={props.isRequired === true}
        aria-describedby={props.hint === undefined ? undefined : `${id}-hint`}
        onChange={event => props.onChange?.(event.currentTarget.checked)}
      />
      <label for={id}>{props.label}</label>
      {props.hint !== undefined && (
        <p class="hint" id={`${id}-hint`}>
          {props.hint}
        </p>
      )}
    </div>
  );
}

/** A text of a sent form; undefined when it was left empty. */
export function textOf(values: FormData, name: string): string | undefined {
  const value = values.get(name);
  return typeof value === 'string' && value !== '' ? value : undefined;
}

export function numberOf(values: FormData, name: string): number | undefined {
  const text = textOf(values, name);
  return text === undefined ? undefined : Number(text);
}
