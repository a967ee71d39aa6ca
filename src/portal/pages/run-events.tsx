import { useState } from 'preact/hooks';
import { feedOf, runEventSchema, type RunEvent } from '../api/records.ts';
import { machineName, usePlace } from '../place.ts';
import { exactTime, timeOfDay } from '../times.ts';
import { FEED_WAIT_SECONDS, useFeed } from '../ui/feed.ts';
import { codeText, eventText } from '../words.ts';

const EVENTS_AT_ONCE = 200;

/** What happened to a run, oldest first. `onNews` is called when something did. */
export function RunEvents(props: {
  readonly path: string;
  readonly id: string;
  readonly onNews: () => void;
}) {
  const { api, directory } = usePlace();
  const [events, setEvents] = useState<readonly RunEvent[]>([]);
  useFeed(
    props.id,
    (after, signal) =>
      api.get(feedOf(runEventSchema), `${props.path}/events`, {
        query: { after, limit: EVENTS_AT_ONCE, wait: FEED_WAIT_SECONDS },
        signal,
      }),
    items => {
      setEvents(before => [...before, ...items]);
      props.onNews();
    },
  );
  return (
    <section class="panel">
      <h2>What happened</h2>
      <ol class="timeline">
        {events.map(event => (
          <li key={event.number} class={event.code === undefined ? '' : 'bad'}>
            <time dateTime={event.at} title={exactTime(event.at)}>
              {timeOfDay(event.at)}
            </time>
            <div>
              <strong>{eventText(event.type)}</strong>
              {event.machineId !== undefined && <> on {machineName(directory, event.machineId)}</>}
              {event.by !== undefined && (
                <>
                  {' '}
                  by <code>{event.by}</code>
                </>
              )}
              {event.code !== undefined && (
                <span class="note">
                  {event.message ?? codeText(event.code)} <code>{event.code}</code>
                </span>
              )}
            </div>
          </li>
        ))}
      </ol>
    </section>
  );
}
