import { fingerprintOf } from '../crypto/fingerprint.ts';
import type { Target } from './api/records.ts';

// What sealing in a browser needs besides dispatch-client/sealing.ts, which does it.

/** Web Crypto is there on https pages, and on this computer's own: elsewhere nothing can be sealed. */
export function canSeal(): boolean {
  return globalThis.isSecureContext;
}

/** How a key compares with the one that this browser sealed to before. */
export type Acquaintance =
  | { readonly is: 'new' }
  | { readonly is: 'known' }
  /** Somebody changed it: the machine was set up anew, or somebody is in between. */
  | { readonly is: 'changed'; readonly before: string };

/** Kept until the browser forgets it: the last key that was sealed to, of each target. */
export function compareWithPin(environment: string, target: Target, kid: string): Acquaintance {
  const pinned = localStorage.getItem(itemOf(environment, target));
  if (pinned === null) return { is: 'new' };
  return pinned === kid ? { is: 'known' } : { is: 'changed', before: fingerprintOf(pinned) };
}

export function pinKey(environment: string, target: Target, kid: string): void {
  localStorage.setItem(itemOf(environment, target), kid);
}

function itemOf(environment: string, { kind, id }: Target): string {
  return `halfway.key.${environment}.${kind}.${id}`;
}
