import { holdsKid, kidsOf } from './held-keys.ts';
import { JOB_ERRORS, type JobErrorCode } from '../jobs/error-codes.ts';
import { UNATTENDED_BOTS_MAX } from '../jobs/limits.ts';
import { presenceStateOf, reasonsOf, type MachineSituation } from './machine-state.ts';
import type { Versioned } from './repository.ts';
import type { Machine } from './records.ts';
import type { MachineAnswer, Run } from './run-record.ts';
import { isAtLeast } from './versions.ts';

// Which machine a run is offered to: pure. Source: job-dispatch.md section 7.4.

export interface Candidate extends MachineSituation {
  readonly record: Versioned<Machine>;
  /** Slots taken, of the run's mode. */
  readonly used: number;
  /** When the last run ended that had started there; 0: none yet. */
  readonly idleSinceMs: number;
  /** The key that the connection's credentials are sealed to; undefined: it has none. */
  readonly sealedTo?: string | undefined;
}

/** What a machine lacks for a run. */
export interface Ineligible {
  readonly code: JobErrorCode;
  readonly message?: string;
  /** It is asked again then, unless something changes before. */
  readonly untilMs?: number;
}

const COOL_DOWN_MS_MIN = 5_000;
const COOL_DOWN_MS_MAX = 60_000;
const RETRY_AFTER_SECONDS_MAX = 600;

/** How many runs of a mode a machine takes at once. */
export function slotsOf({ machine, presence }: MachineSituation, mode: Run['mode']): number {
  if (presence === undefined) return 0;
  if (mode === 'attended') return presence.capacity.attended;
  return Math.min(machine.allocatedBots, presence.capacity.unattended, UNATTENDED_BOTS_MAX);
}

/** Why a machine is not offered a run; undefined: it is eligible. */
export function whyNot(run: Run, candidate: Candidate, nowMs: number): Ineligible | undefined {
  const { machine, presence } = candidate;
  const reasons = reasonsOf(candidate);
  if (reasons.includes('RequiresReconnection')) return { code: 'MachineIdentityConflict' };
  if (run.target.kind === 'group' && !canOpen(candidate, reasons)) {
    return { code: 'MachineRequiresGroupKey' };
  }
  if (reasons.includes('RequiresUpdate')) return { code: 'JobSchemaTooNew' };
  // A run of the machine's own key does not need its group's.
  if (reasons.some(reason => reason !== 'RequiresGroupKey'))
    return { code: 'MachineInMaintenance' };
  if (presenceStateOf(presence, nowMs) !== 'Connected') return { code: 'NoListenerConnected' };
  if (run.minAgentVersion !== undefined) {
    const version = presence?.agentVersion ?? machine.registeredVersion;
    if (!isAtLeast(version, run.minAgentVersion)) return { code: 'JobSchemaTooNew' };
  }
  const missing = missingLabels(run, candidate);
  if (missing !== '') return { code: 'NoCandidateMachine', message: `lacks ${missing}` };
  const slots = slotsOf(candidate, run.mode);
  if (slots === 0 && run.mode === 'attended') return { code: 'AttendedUserNotLoggedIn' };
  if (candidate.used >= slots) return { code: 'UIFlowAlreadyRunning' };
  return coolingDown(run, candidate, nowMs);
}

/**
 * While keys change, credentials may be sealed to the group's next key or to a former one: those are for
 * members that have just this one.
 */
function canOpen(
  { machine, group, sealedTo }: Candidate,
  reasons: ReturnType<typeof reasonsOf>,
): boolean {
  const isOther = sealedTo !== undefined && sealedTo !== group?.key?.publicKey.kid;
  if (isOther && group !== undefined && kidsOf(group).includes(sealedTo)) {
    return holdsKid(machine.group, sealedTo);
  }
  return !reasons.includes('RequiresGroupKey');
}

/** The eligible ones, the best first: fewest running, then longest idle, then by chance. */
export function inOrder(
  candidates: readonly Candidate[],
  random: () => number,
): readonly Candidate[] {
  return candidates
    .map(candidate => ({ candidate, chance: random() }))
    .toSorted(
      (one, other) =>
        one.candidate.used - other.candidate.used ||
        one.candidate.idleSinceMs - other.candidate.idleSinceMs ||
        one.chance - other.chance,
    )
    .map(({ candidate }) => candidate);
}

/** What is kept of a machine's no: how long it is left alone with this run. */
export function answerAfter(
  before: MachineAnswer | undefined,
  said: {
    readonly code: JobErrorCode;
    readonly message?: string | undefined;
    readonly retryAfterSeconds?: number | undefined;
  },
  run: Run,
  nowMs: number,
): MachineAnswer {
  const times = (before?.times ?? 0) + 1;
  const doubled = Math.min(COOL_DOWN_MS_MIN * 2 ** (times - 1), COOL_DOWN_MS_MAX);
  const asked = Math.min(said.retryAfterSeconds ?? 0, RETRY_AFTER_SECONDS_MAX) * 1_000;
  const isForGood = JOB_ERRORS[said.code].class === 'another-machine';
  const notBeforeMs = isForGood ? run.queueUntilMs : nowMs + Math.max(doubled, asked);
  return { code: said.code, message: said.message, atMs: nowMs, times, notBeforeMs };
}

/**
 * Whether a run that a machine could not take, but another may, is offered once more. Sessions that could
 * not be made are tried on one other machine only.
 */
export function hasOthers(
  run: Run,
  machineId: string,
  code: JobErrorCode,
  members: readonly string[],
): boolean {
  const tried = Object.entries(run.answers).filter(
    ([id, answer]) => id !== machineId && JOB_ERRORS[answer.code].class === 'another-machine',
  );
  if (code !== 'JobSchemaTooNew' && tried.some(([, answer]) => answer.code !== 'JobSchemaTooNew')) {
    return false;
  }
  const triedIds = new Set(tried.map(([id]) => id));
  return members.some(id => id !== machineId && !triedIds.has(id));
}

/** It said no a while ago, and nothing has changed since that lets one hope. */
function coolingDown(
  run: Run,
  { machine, presence, idleSinceMs }: Candidate,
  nowMs: number,
): Ineligible | undefined {
  const answer = Object.hasOwn(run.answers, machine.id) ? run.answers[machine.id] : undefined;
  if (answer === undefined || nowMs >= answer.notBeforeMs) return undefined;
  const changedAtMs = Math.max(machine.eligibleAtMs, presence?.gainedAtMs ?? 0, idleSinceMs);
  if (answer.atMs < changedAtMs) return undefined;
  return { code: answer.code, untilMs: answer.notBeforeMs };
}

function missingLabels({ labels }: Run, { machine, presence }: Candidate): string {
  const had = { ...presence?.labels, ...machine.labels };
  const missing = Object.entries(labels).filter(([name, value]) => had[name] !== value);
  return missing.map(([name, value]) => `${name}=${value}`).join(', ');
}
