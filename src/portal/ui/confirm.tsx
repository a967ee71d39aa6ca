import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { Dialog } from './dialog.tsx';
import { TextField } from './fields.tsx';
import { Form } from './form.tsx';

/** Asks before something is done. With `typed` that text must be typed first: there is no way back. */
export function Confirm(props: {
  readonly title: string;
  readonly action: string;
  readonly typed?: string;
  readonly onConfirm: () => Promise<void>;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}) {
  const { typed } = props;
  const [isTyped, setTyped] = useState(typed === undefined);
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <Form
        submit={props.action}
        tone="danger"
        isBlocked={!isTyped}
        onCancel={props.onClose}
        onSubmit={async () => {
          await props.onConfirm();
          props.onClose();
        }}
      >
        {props.children}
        {typed !== undefined && (
          <TextField
            label={`Type “${typed}” to confirm`}
            name="typed"
            hasFocus
            onInput={value => setTyped(value.trim() === typed)}
          />
        )}
      </Form>
    </Dialog>
  );
}

/** A button that opens a dialog. */
export function DialogButton(props: {
  readonly label: string;
  readonly class?: string;
  readonly dialog: (close: () => void) => ComponentChildren;
}) {
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <button type="button" class={props.class ?? ''} onClick={() => setOpen(true)}>
        {props.label}
      </button>
      {isOpen && props.dialog(() => setOpen(false))}
    </>
  );
}
