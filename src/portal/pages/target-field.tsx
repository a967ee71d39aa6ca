import type { Target } from '../api/records.ts';
import { usePlace } from '../place.ts';
import { Select } from '../ui/fields.tsx';

/** Where a connection leads: machines, and groups that have a key to seal to. */
export function TargetField(props: {
  readonly value: string;
  readonly onChange: (value: string) => void;
}) {
  const { machines, groups } = usePlace().directory;
  const withKey = [...groups.values()].filter(({ key }) => key !== undefined);
  return (
    <Select
      label="Target"
      name="target"
      isRequired
      value={props.value}
      onChange={props.onChange}
      options={[
        { value: '', label: 'Choose a machine or group' },
        ...[...machines.values()].map(({ id, name }) => ({
          value: `machine:${id}`,
          label: `${name} (machine)`,
        })),
        ...withKey.map(({ id, name }) => ({ value: `group:${id}`, label: `${name} (group)` })),
      ]}
      {...(withKey.length < groups.size
        ? { hint: 'Groups that no machine has joined have no key yet, and are left out.' }
        : {})}
    />
  );
}

/** `machine:<id>` or `group:<id>`; undefined for anything else. */
export function targetOf(text: string): Target | undefined {
  const [, kind, id] = /^(machine|group):(.+)$/.exec(text) ?? [];
  if (id === undefined) return undefined;
  return { kind: kind === 'group' ? 'group' : 'machine', id };
}

export function targetText({ kind, id }: Target): string {
  return `${kind}:${id}`;
}
