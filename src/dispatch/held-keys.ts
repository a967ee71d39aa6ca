import type { Group, Machine } from './records.ts';

// Which of a group's keys a member has proved that it has. There may be several: the present one, the next
// one while a rotation is under way, and former ones for as long as something is sealed to them.

type Membership = NonNullable<Machine['group']>;

export function holdsKid(membership: Membership | undefined, kid: string): boolean {
  return membership?.provedKid === kid || membership?.otherKids?.includes(kid) === true;
}

/** All that the group has now, the present one first. */
export function kidsOf({ key, rotation, formerKeys = [] }: Group): readonly string[] {
  const keys = [key?.publicKey, rotation?.secondary?.publicKey];
  return [...keys, ...formerKeys.map(({ publicKey }) => publicKey)]
    .filter(publicKey => publicKey !== undefined)
    .map(({ kid }) => kid);
}

/** A membership after one more key of the group was proved; what is none of its keys any more is forgotten. */
export function membershipWith(
  before: Membership | undefined,
  group: Group,
  kid: string,
): Membership {
  const known = new Set(kidsOf(group));
  const had = before?.id === group.id ? [before.provedKid, ...(before.otherKids ?? [])] : [];
  const held = [...new Set([kid, ...had])].filter(one => one !== undefined && known.has(one));
  const primary = group.key?.publicKey.kid;
  const provedKid = held.find(one => one === primary) ?? held[0];
  const otherKids = held.filter(one => one !== undefined && one !== provedKid);
  return {
    id: group.id,
    provedKid,
    ...(otherKids.length === 0 ? {} : { otherKids: otherKids.filter(one => one !== undefined) }),
  };
}
