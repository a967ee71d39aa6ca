import { RUN_SECONDS_DEFAULT, RUN_SECONDS_MAX } from '../../jobs/limits.ts';
import { NumberField, numberOf, Select, textOf } from '../ui/fields.tsx';

const MINUTE_SECONDS = 60;
const QUEUE_MINUTES_MAX = 7 * 24 * 60;

/** What most runs leave as it is. `at`: as in job-fields.tsx. */
export function RunLimits({ at = '' }: { readonly at?: string }) {
  return (
    <details
      class="more"
      onInvalidCapture={event => {
        // What is at fault must be seen.
        event.currentTarget.open = true;
      }}
    >
      <summary>Time, priority and what happens when something fails</summary>
      <div class="row">
        <NumberField
          label="Ended after"
          name="timeoutSeconds"
          path={`${at}timeoutSeconds`}
          value={RUN_SECONDS_DEFAULT}
          min={1}
          max={RUN_SECONDS_MAX}
          unit="seconds"
        />
        <NumberField
          label="Waits at most"
          name="queueTimeoutSeconds"
          path={`${at}queueTimeoutSeconds`}
          min={1}
          max={QUEUE_MINUTES_MAX}
          unit="minutes"
          hint="12 hours when left empty."
        />
      </div>
      <div class="row">
        <Select
          label="Priority"
          name="priority"
          path={`${at}priority`}
          value="normal"
          options={[
            { value: 'normal', label: 'Normal' },
            { value: 'high', label: 'High: before all normal ones' },
          ]}
        />
        <Select
          label="Session"
          name="mode"
          path={`${at}mode`}
          value="unattended"
          options={[
            { value: 'unattended', label: 'Unattended: in a session of its own' },
            { value: 'attended', label: 'Attended: in the session of whoever is signed in' },
          ]}
        />
      </div>
      <div class="row">
        <Select
          label="When the machine is not connected"
          name="whenOffline"
          path={`${at}whenOffline`}
          value="queue"
          options={[
            { value: 'queue', label: 'Wait for it' },
            { value: 'fail', label: 'Fail at once' },
          ]}
        />
        <Select
          label="When the machine is lost during the run"
          name="onLost"
          path={`${at}onLost`}
          value="fail"
          options={[
            { value: 'fail', label: 'End as lost' },
            { value: 'requeue', label: 'Run it again: what it did may happen twice' },
          ]}
        />
      </div>
    </details>
  );
}

/** What was chosen in `RunLimits`, as the API takes it. */
export function limitsOf(values: FormData): object {
  const minutes = numberOf(values, 'queueTimeoutSeconds');
  return {
    mode: textOf(values, 'mode'),
    priority: textOf(values, 'priority'),
    timeoutSeconds: numberOf(values, 'timeoutSeconds'),
    queueTimeoutSeconds: minutes === undefined ? undefined : minutes * MINUTE_SECONDS,
    whenOffline: textOf(values, 'whenOffline'),
    onLost: textOf(values, 'onLost'),
  };
}
