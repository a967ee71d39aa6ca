import { signal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { systemClock } from '../../base/clock.ts';
import { exactTime, relativeTime } from '../times.ts';
import type { Word } from '../words.ts';

/** A state as a word with a colour. */
export function Badge({ word }: { readonly word: Word }) {
  return <span class={`badge ${word.tone}`}>{word.label}</span>;
}

/** How long ago, or in how long; the exact time on hovering. */
export function Ago({ moment }: { readonly moment: string | undefined }) {
  if (moment === undefined) return <span class="quiet">never</span>;
  return (
    <time dateTime={moment} title={exactTime(moment)}>
      {relativeTime(moment)}
    </time>
  );
}

const COPIED_MS = 2_000;

/** A text to be taken elsewhere. */
export function Copyable(props: { readonly text: string; readonly label: string }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async (): Promise<void> => {
    await navigator.clipboard.writeText(props.text);
    setCopied(true);
    systemClock.after(COPIED_MS, () => setCopied(false));
  };
  return (
    <div class="copyable">
      <pre tabIndex={0} aria-label={props.label}>
        {props.text}
      </pre>
      <button
        type="button"
        onClick={() =>
          void copy().catch(() => notify('Copying is not allowed here: select the text'))
        }
      >
        {isCopied ? 'Copied' : 'Copy'}
        <span class="unseen"> {props.label}</span>
      </button>
    </div>
  );
}

/** Names and what they are, for one record. */
export function Facts(props: {
  readonly rows: readonly (readonly [string, ComponentChildren] | undefined)[];
}) {
  return (
    <dl class="facts">
      {props.rows.map(row =>
        row === undefined ? null : (
          <div key={row[0]}>
            <dt>{row[0]}</dt>
            <dd>{row[1]}</dd>
          </div>
        ),
      )}
    </dl>
  );
}

/** The head of a page: where one is, what it is, what may be done. */
export function PageHead(props: {
  readonly title: string;
  readonly above?: ComponentChildren;
  readonly badge?: Word;
  readonly children?: ComponentChildren;
}) {
  return (
    <header class="page-head">
      <div>
        {props.above !== undefined && <p class="above">{props.above}</p>}
        <h1 tabIndex={-1}>
          {props.title} {props.badge !== undefined && <Badge word={props.badge} />}
        </h1>
      </div>
      <div class="actions">{props.children}</div>
    </header>
  );
}

export function Empty(props: { readonly title: string; readonly children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{props.title}</h2>
      {props.children}
    </div>
  );
}

const notices = signal<readonly { readonly id: number; readonly text: string }[]>([]);
const NOTICE_MS = 6_000;
let noticeCount = 0;

/** Says in a corner that something was done. */
export function notify(text: string): void {
  noticeCount += 1;
  const id = noticeCount;
  notices.value = [...notices.value, { id, text }];
  systemClock.after(NOTICE_MS, () => {
    notices.value = notices.value.filter(notice => notice.id !== id);
  });
}

/** Drawn once, from the start: a live region that comes together with its text is not read out. */
export function Notices() {
  return (
    <div class="notices" role="status" aria-live="polite">
      {notices.value.map(({ id, text }) => (
        <p key={id}>{text}</p>
      ))}
    </div>
  );
}
