import { useState } from 'preact/hooks';
import { runSchema } from '../api/records.ts';
import { newId, usePlace } from '../place.ts';
import { go, href, route } from '../route.ts';
import { pinKey } from '../sealing.ts';
import { Form } from '../ui/form.tsx';
import { notify, PageHead } from '../ui/parts.tsx';
import { useSameBody } from '../ui/same-body.ts';
import { ActsAsWarning } from './credential-fields.tsx';
import { inputsOf, InputRows, type RunInputs } from './input-rows.tsx';
import { JobFields, jobOf } from './job-fields.tsx';
import { KeyCheck, useTargetKey } from './key-check.tsx';
import { NoConnection } from './no-connection.tsx';
import { limitsOf, RunLimits } from './run-limits.tsx';
import { targetText } from './target-field.tsx';

export function NewRunPage() {
  const { api, path, environment, directory } = usePlace();
  const { query } = route.value;
  const [id] = useState(newId);
  const [connectionId, setConnectionId] = useState(query.get('connection') ?? '');
  const [hasSealed, setHasSealed] = useState(false);
  const sameBody = useSameBody<RunInputs>();
  const target = directory.connections.get(connectionId)?.target;
  const checked = useTargetKey(hasSealed ? target : undefined);
  const head = (
    <PageHead title="Start a run" above={<a href={href(environment, 'runs')}>Runs</a>} />
  );
  if (!directory.isLoaded) return head;
  const wanted = query.get('target');
  const connections = [...directory.connections.values()].filter(
    connection => wanted === null || wanted === targetText(connection.target),
  );
  if (connections.length === 0) {
    return (
      <>
        {head}
        <NoConnection {...(wanted === null ? {} : { target: wanted })} />
      </>
    );
  }

  const start = async (values: FormData): Promise<void> => {
    const given = await sameBody(values, checked.key?.holder.kid, () =>
      inputsOf(values, checked.key, id),
    );
    const run = await api.change(runSchema, 'POST', `${path}/runs`, {
      idempotencyKey: id,
      body: { id, ...jobOf(values), ...limitsOf(values), ...given },
    });
    if (target !== undefined && checked.key !== undefined) {
      pinKey(environment, target, checked.key.holder.kid);
    }
    notify('The run is queued');
    go(href(environment, 'runs', run.id));
  };

  return (
    <>
      {head}
      <ActsAsWarning />
      <Form submit="Start run" onCancel={() => go(href(environment, 'runs'))} onSubmit={start}>
        <JobFields
          connections={connections}
          connectionId={connectionId}
          onConnection={setConnectionId}
        />
        <InputRows onSealed={setHasSealed} />
        {hasSealed && target !== undefined && <KeyCheck target={target} checked={checked} />}
        <RunLimits />
      </Form>
    </>
  );
}
