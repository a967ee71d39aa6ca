import { DISCONNECTED_AFTER_MS, STALE_AFTER_MS } from '../jobs/limits.ts';
import { holdsKid } from './held-keys.ts';
import type { Group, Machine, Presence } from './records.ts';
import { isAtLeast } from './versions.ts';

export type PresenceState = 'Connected' | 'Stale' | 'Disconnected' | 'NeverConnected';

/** Computed from the last signal each time it is asked: a stored flag would show machines that are gone. */
export function presenceStateOf(presence: Presence | undefined, nowMs: number): PresenceState {
  if (presence === undefined) return 'NeverConnected';
  const silentMs = nowMs - presence.lastSignalAtMs;
  if (silentMs > DISCONNECTED_AFTER_MS) return 'Disconnected';
  return silentMs > STALE_AFTER_MS ? 'Stale' : 'Connected';
}

export type MaintenanceReason =
  | 'Manual'
  | 'GroupMaintenance'
  | 'Draining'
  | 'RequiresReconnection'
  | 'RequiresGroupKey'
  | 'RequiresUpdate';

export interface MachineSituation {
  readonly machine: Machine;
  readonly presence: Presence | undefined;
  /** Its group's record, when it is in one. */
  readonly group: Group | undefined;
  readonly minAgentVersion: string | undefined;
}

/** Why nothing is offered to it; empty: it may be. Source: job-dispatch.md section 3.2. */
export function reasonsOf({
  machine,
  presence,
  group,
  minAgentVersion,
}: MachineSituation): readonly MaintenanceReason[] {
  const version = presence?.agentVersion ?? machine.registeredVersion;
  const isOld = minAgentVersion !== undefined && !isAtLeast(version, minAgentVersion);
  const reasons: readonly (readonly [boolean, MaintenanceReason])[] = [
    [machine.isInMaintenance, 'Manual'],
    [group?.isInMaintenance === true, 'GroupMaintenance'],
    [machine.isDraining, 'Draining'],
    [machine.hasIdentityConflict, 'RequiresReconnection'],
    [lacksGroupKey(machine, group), 'RequiresGroupKey'],
    [isOld, 'RequiresUpdate'],
  ];
  return reasons.filter(([holds]) => holds).map(([, reason]) => reason);
}

/** `Inactive`: it was drained, and the last run has ended. */
export function machineStateOf(
  reasons: readonly MaintenanceReason[],
  slotsUsed: number,
): 'Active' | 'Maintenance' | 'Inactive' {
  if (reasons.length === 0) return 'Active';
  return reasons.includes('Draining') && slotsUsed === 0 ? 'Inactive' : 'Maintenance';
}

/** It is a member, but has not proved that it can open what is sealed to the group's present key. */
export function lacksGroupKey(machine: Machine, group: Group | undefined): boolean {
  if (machine.group === undefined) return false;
  const kid = group?.key?.publicKey.kid;
  return kid === undefined || !holdsKid(machine.group, kid);
}
