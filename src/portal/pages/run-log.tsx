import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { feedOf, logChunkSchema } from '../api/records.ts';
import { LogText } from '../log-text.ts';
import { usePlace } from '../place.ts';
import { toProblem } from '../api/problem.ts';
import { FEED_WAIT_SECONDS, useFeed } from '../ui/feed.ts';
import { notify } from '../ui/parts.tsx';
import { LiveNote } from '../ui/problem-box.tsx';

/** What is kept in the page; the whole log can be saved to a file. */
const SHOWN_CHARS_MAX = 500_000;
/** The most that the server gives. */
const CHUNKS_AT_ONCE = 16;
/** Nearer to its end than this, whoever reads wants to see what comes. */
const AT_END_PX = 40;

/** A run's log, growing as the job writes it. */
export function RunLog({ path, id }: { readonly path: string; readonly id: string }) {
  const { api } = usePlace();
  const [text, setText] = useState('');
  const [isCut, setCut] = useState(false);
  const log = useRef(new LogText());
  const frame = useRef<HTMLPreElement>(null);
  const isAtEnd = useRef(true);
  const { isOver, problem } = useFeed(
    id,
    (after, signal) =>
      api.get(feedOf(logChunkSchema), `${path}/logs`, {
        query: { after, limit: CHUNKS_AT_ONCE, wait: FEED_WAIT_SECONDS },
        signal,
      }),
    chunks => {
      const more = chunks.map(chunk => log.current.push(chunk)).join('');
      setText(before => {
        const whole = before + more;
        if (whole.length <= SHOWN_CHARS_MAX) return whole;
        setCut(true);
        return whole.slice(-SHOWN_CHARS_MAX);
      });
    },
  );
  useLayoutEffect(() => {
    const element = frame.current;
    if (element !== null && isAtEnd.current) element.scrollTop = element.scrollHeight;
  }, [text]);

  const save = async (): Promise<void> => {
    const whole = await api.text(`${path}/logs`);
    const address = URL.createObjectURL(new Blob([whole], { type: 'text/plain' }));
    const link = document.createElement('a');
    link.href = address;
    link.download = `${id}.log`;
    link.click();
    URL.revokeObjectURL(address);
  };
  return (
    <section class="panel">
      <header class="panel-head">
        <h2>Log</h2>
        <span class="quiet" role="status">
          {isOver ? 'complete' : 'live'}
        </span>
        <button
          type="button"
          onClick={() => void save().catch((error: unknown) => notify(toProblem(error).message))}
        >
          Save as a file
        </button>
      </header>
      <LiveNote value={text} problem={problem} />
      {isCut && <p class="quiet">The beginning is left out here; the file has all of it.</p>}
      <pre
        ref={frame}
        class="log"
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label="Log of the run"
        onScroll={({ currentTarget: at }) => {
          isAtEnd.current = at.scrollHeight - at.scrollTop - at.clientHeight < AT_END_PX;
        }}
      >
        {text === '' ? (isOver ? 'The job wrote nothing.' : 'Nothing written yet.') : text}
      </pre>
    </section>
  );
}
