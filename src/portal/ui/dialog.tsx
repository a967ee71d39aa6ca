import type { ComponentChildren } from 'preact';
import { useId, useLayoutEffect, useRef } from 'preact/hooks';

/**
 * A modal dialog: the browser keeps the focus inside, closes it on Escape and gives the focus back to
 * whatever had it before. It is open as long as it is drawn.
 */
export function Dialog(props: {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}) {
  const element = useRef<HTMLDialogElement>(null);
  const isGone = useRef(false);
  const titleId = useId();
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => {
      // Its event comes later, when another dialog may stand in its place.
      isGone.current = true;
      dialog?.close();
    };
  }, []);
  const close = (): void => {
    if (!isGone.current) props.onClose();
  };
  return (
    <dialog ref={element} aria-labelledby={titleId} onClose={close}>
      <header class="dialog-head">
        <h2 id={titleId}>{props.title}</h2>
        <button type="button" class="plain" aria-label="Close" onClick={props.onClose}>
          ✕
        </button>
      </header>
      {props.children}
    </dialog>
  );
}
