// What names, rights, keys and texts of the resource model may be: the config file and the management API hold to it.
// Source: protocol reference 2.5, 6.1 and 6.2.
import { show } from '../base/show.ts';
import { RIGHTS, type Right } from './resources.ts';

/** Rules of one level: of a namespace, or of a hybrid connection. */
export const RULES_MAX = 12;
/** As in the libraries, which take no longer ones. */
export const KEY_CHARS_MAX = 256;
export const USER_METADATA_CHARS_MAX = 1_024;

/** Continues "must be …". */
export const RULE_NAME_FORM =
  '1 to 50 letters, digits, ".", "-" or "_", beginning and ending with a letter or digit';
/** Continues "must be …", for what `isEntityName` refuses. */
export const ENTITY_NAME_FORM =
  '1 to 260 letters, digits, ".", "-", "_" or "/", beginning and ending with a letter or digit, ' +
  'without empty or dot segments';

export function isRuleName(text: string): boolean {
  return /^[A-Za-z0-9]([A-Za-z0-9._-]{0,48}[A-Za-z0-9])?$/.test(text);
}

/** Names are compared without regard to case. */
export function sameName(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}

export interface RightsCheck {
  readonly rights: readonly Right[];
  /** Each continues a sentence that names the list, or the item at `index` of it. */
  readonly faults: readonly { readonly index?: number; readonly fault: string }[];
}

/** Reads the rights of a rule: at least one, none twice, and `Manage` only with both others. */
export function checkRights(items: readonly unknown[]): RightsCheck {
  const faults: { readonly index?: number; readonly fault: string }[] = [];
  const rights = items.flatMap((item, index) => {
    const right = RIGHTS.find(known => known === item);
    if (right !== undefined) return [right];
    faults.push({ index, fault: `must be one of ${RIGHTS.join(', ')}, got ${show(item)}` });
    return [];
  });
  if (items.length === 0) {
    faults.push({ fault: `must hold at least one of ${RIGHTS.join(', ')}` });
  }
  if (new Set(rights).size < rights.length) faults.push({ fault: 'must not name a right twice' });
  if (rights.includes('Manage') && !(rights.includes('Listen') && rights.includes('Send'))) {
    faults.push({ fault: 'must hold Listen and Send too when it holds Manage' });
  }
  return { rights, faults };
}
