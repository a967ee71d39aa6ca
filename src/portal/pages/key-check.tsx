import { useEffect, useState } from 'preact/hooks';
import type { DispatchError } from '../../dispatch-client/dispatch-error.ts';
import { targetKeyOf, type TargetKey } from '../../dispatch-client/sealing.ts';
import { toProblem } from '../api/problem.ts';
import { publicKeySchema, type Target } from '../api/records.ts';
import { tenantOf, usePlace } from '../place.ts';
import { canSeal, compareWithPin } from '../sealing.ts';
import { Checkbox } from '../ui/fields.tsx';
import { ProblemBox } from '../ui/problem-box.tsx';

export interface CheckedKey {
  /** Id and fingerprint are worked out here from the key itself: what a server says of them proves nothing. */
  readonly key: TargetKey | undefined;
  readonly problem: DispatchError | undefined;
}

/** The key of a target, fetched and checked; anew when the target changes. */
export function useTargetKey(target: Target | undefined): CheckedKey {
  const { api, path, environment, directory } = usePlace();
  const [checked, setChecked] = useState<CheckedKey>({ key: undefined, problem: undefined });
  const tenant = target === undefined ? undefined : tenantOf(directory, target);
  const name = target === undefined ? '' : `${target.kind}s/${encodeURIComponent(target.id)}`;
  useEffect(() => {
    setChecked({ key: undefined, problem: undefined });
    const ended = new AbortController();
    const { signal } = ended;
    const read = async (to: Target, ofTenant: string): Promise<void> => {
      try {
        const answer = await api.get(publicKeySchema, `${path}/${name}/public-key`, { signal });
        const holder = { tenant: ofTenant, environment, kind: to.kind, id: to.id, kid: answer.kid };
        const key = await targetKeyOf(holder, answer);
        if (!signal.aborted) setChecked({ key, problem: undefined });
      } catch (error) {
        if (!signal.aborted) setChecked({ key: undefined, problem: toProblem(error) });
      }
    };
    if (target !== undefined && tenant !== undefined && canSeal()) void read(target, tenant);
    return () => ended.abort();
  }, [name, tenant]);
  return checked;
}

/** Shows whose key credentials will be sealed to, and warns when it is not the one it used to be. */
export function KeyCheck(props: { readonly target: Target; readonly checked: CheckedKey }) {
  const { environment } = usePlace();
  const { target, checked } = props;
  if (!canSeal()) return <CannotSeal />;
  if (checked.problem !== undefined) return <ProblemBox problem={checked.problem} />;
  if (checked.key === undefined) return <p class="quiet">Fetching the key of the {target.kind}…</p>;
  const known = compareWithPin(environment, target, checked.key.holder.kid);
  const where = target.kind === 'machine' ? 'that machine' : 'a machine of that group';
  return (
    <div class={known.is === 'changed' ? 'box bad' : 'box'} role="status">
      <p>
        Sealed to the key with the fingerprint
        <br />
        <code class="fingerprint">{checked.key.fingerprint}</code>
      </p>
      {known.is === 'known' && <p>It is the key that this browser sealed to before.</p>}
      {known.is === 'new' && (
        <p>
          This browser has not seen it before. Compare it with what{' '}
          <code>halfway machine status</code> shows on {where}: a server that lies could show its
          own.
        </p>
      )}
      {known.is === 'changed' && (
        <>
          <p>
            <strong>The key has changed.</strong> This browser sealed to{' '}
            <code class="fingerprint">{known.before}</code> before. The {target.kind} was set up
            anew, its key was replaced, or somebody wants to read the password. Ask whoever looks
            after it.
          </p>
          <Checkbox
            name="keyIsRight"
            isRequired
            label={`I have compared this fingerprint with what ${where} shows, and it is right`}
          />
        </>
      )}
    </div>
  );
}

function CannotSeal() {
  return (
    <div class="box bad" role="alert">
      <p>
        <strong>Nothing can be sealed on this page.</strong> Browsers have cryptography for https
        pages only, and for <code>localhost</code>. Open the portal by https, or use the command
        line: <code>halfway connection create</code>.
      </p>
    </div>
  );
}
