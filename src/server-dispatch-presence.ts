import type { CancelTimer, Clock } from './base/clock.ts';
import type { Logger } from './base/logger.ts';
import type { MachinePresence } from './dispatch/machine-presence.ts';
import { sameName } from './protocol/resource-rules.ts';
import type { HybridConnection } from './relay/hybrid-connection.ts';
import type { ListenerObserver } from './relay/events.ts';

/** A listener that is gone may be on its way back, to whichever node. */
const RETURN_MS = 10_000;
/** `audienceOf`. */
const MACHINE_PATH = /^([a-z0-9-]{1,63})\/m\/([^/]{1,64})$/i;

/**
 * What the relay knows of machines, told to the control plane: one whose listener has come lives, and one that has had
 * none for a while, on no node, is not offered anything until it speaks again.
 */
export function watchPresence(deps: {
  readonly plane: {
    in(environment: string): { readonly presence: Pick<MachinePresence, 'signal' | 'left'> };
  };
  /** Name of the one that machines live in. */
  readonly namespace: string;
  readonly clock: Clock;
  readonly log: Logger;
}): { readonly onListener: ListenerObserver; stop(): void } {
  const { plane, namespace, clock, log } = deps;
  const leaving = new Map<string, CancelTimer>();
  const tell = (what: 'signal' | 'left', environment: string, machineId: string): void => {
    plane
      .in(environment)
      .presence[what](machineId)
      .catch((error: unknown) => log.debug({ err: error, machineId }, 'presence was not noted'));
  };
  const onListener = (hybridConnection: HybridConnection, what: 'came' | 'gone'): void => {
    const { name, isDeleted } = hybridConnection;
    const [, environment, machineId] = MACHINE_PATH.exec(name) ?? [];
    if (environment === undefined || machineId === undefined) return;
    if (!hybridConnection.replacesListener || !sameName(hybridConnection.namespace, namespace))
      return;
    leaving.get(name)?.();
    leaving.delete(name);
    if (what === 'came') tell('signal', environment, machineId);
    else if (!isDeleted) {
      const look = (): void => {
        leaving.delete(name);
        if (hybridConnection.reachable.length === 0) tell('left', environment, machineId);
      };
      leaving.set(name, clock.after(RETURN_MS, look));
    }
  };
  return {
    onListener,
    stop: () => {
      for (const cancel of leaving.values()) cancel();
      leaving.clear();
    },
  };
}
