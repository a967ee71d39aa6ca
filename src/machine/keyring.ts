import type { Logger } from '../base/logger.ts';
import { trustedKeys } from '../crypto/key-chain.ts';
import type { OpeningKey } from '../crypto/key-pair.ts';
import type { HeldKeys } from './credential-opener.ts';
import type { IdentityKey, KeyStore, MachineKeys } from './key-store.ts';
import {
  readRegistration,
  writeRegistration,
  type DispatchKey,
  type RegistrationRecord,
} from './registration-record.ts';
import type { StateFolder } from './state-folder.ts';

/** Which keys a group has, as the control plane tells its members. */
export interface GroupKids {
  readonly groupId: string;
  readonly primaryKid: string;
  readonly secondaryKid?: string | undefined;
  readonly formerKids: readonly string[];
}

/**
 * What the running service knows of its registration and has of keys. Commands change both on disk: `reload`
 * reads them anew, and whatever is written here is written over what was read just before.
 */
export class Keyring {
  readonly #folder: StateFolder;
  readonly #store: KeyStore;
  readonly #onIdentity: (identity: IdentityKey) => void;
  #identityKid: string;
  readonly #log: Logger;
  #record: RegistrationRecord;
  #machineKeys: readonly OpeningKey[];
  #groupKeys: readonly OpeningKey[] = [];

  constructor(of: {
    readonly folder: StateFolder;
    readonly keyStore: KeyStore;
    readonly keys: MachineKeys;
    readonly record: RegistrationRecord;
    readonly log: Logger;
    /** The machine has another identity key. */
    readonly onIdentity: (identity: IdentityKey) => void;
  }) {
    this.#folder = of.folder;
    this.#store = of.keyStore;
    this.#identityKid = of.keys.identity.kid;
    this.#machineKeys = [of.keys.encryption];
    this.#record = of.record;
    this.#log = of.log;
    this.#onIdentity = of.onIdentity;
  }

  get record(): RegistrationRecord {
    return this.#record;
  }

  /** For whoever opens envelopes. */
  held(): HeldKeys {
    const { tenant, environment, machineId, group } = this.#record;
    return {
      tenant,
      environment,
      machineId,
      machineKeys: this.#machineKeys,
      group: group === undefined ? undefined : { id: group.id, keys: this.#groupKeys },
    };
  }

  kids(): readonly string[] {
    return [...this.#machineKeys, ...this.#groupKeys].map(({ kid }) => kid);
  }

  /** False: this folder is another machine by now, or none. */
  async reload(): Promise<boolean> {
    const record = readRegistration(this.#folder);
    if (record?.machineId !== this.#record.machineId) return false;
    if (record.identityKid !== this.#identityKid) {
      this.#onIdentity(await this.#store.identityKey(record.identityKid));
      this.#identityKid = record.identityKid;
    }
    this.#machineKeys = await Promise.all(
      encryptionKids(record).map(kid => this.#store.encryptionKey(kid)),
    );
    this.#groupKeys =
      record.group === undefined ? [] : await this.#store.groupKeys(record.group.id);
    this.#record = record;
    return true;
  }

  /**
   * Pins the successors of what is pinned, and lets go of what is not published any more. What no pinned key
   * has signed is nobody's, whoever publishes it.
   */
  async pin(published: readonly DispatchKey[]): Promise<void> {
    const pinned = this.#record.dispatchKeys;
    const trusted = await trustedKeys(pinned, published);
    const strange = published.filter(key => !trusted.includes(key));
    if (strange.length > 0) {
      const fields = { event: 'security', kids: kidsOf(strange) };
      this.#log.warn(fields, 'keys that no known one has signed');
    }
    if (trusted.length === 0 || kidsOf(trusted) === kidsOf(pinned)) return;
    this.#change(record => ({ ...record, dispatchKeys: [...trusted] }));
    this.#log.info({ kids: kidsOf(trusted) }, 'keys that sign offers are others from now on');
  }

  /** The control plane has this encryption key as the present one: what was before it is a former one. */
  promoted(kid: string): void {
    if (this.#record.nextEncryptionKid !== kid) return;
    this.#change(({ nextEncryptionKid: _promoted, ...record }) => ({
      ...record,
      encryptionKid: kid,
      formerEncryptionKids: [...(record.formerEncryptionKids ?? []), record.encryptionKid],
    }));
    this.#log.info({ kid }, 'the new encryption key is the present one from now on');
  }

  /** Keeps to the keys that the group has: what is none of them is deleted. True: the present one is here. */
  async keepGroupKeys({
    groupId,
    primaryKid,
    secondaryKid,
    formerKids,
  }: GroupKids): Promise<boolean> {
    const { group } = this.#record;
    if (group?.id !== groupId) return false;
    const wanted = new Set([primaryKid, ...formerKids]);
    if (secondaryKid !== undefined) wanted.add(secondaryKid);
    const has = (kid: string): boolean => this.#groupKeys.some(key => key.kid === kid);
    // Without the present key nothing is deleted: whoever says so may be wrong.
    if (!has(primaryKid)) return false;
    if (group.kid !== primaryKid) {
      this.#change(record => ({ ...record, group: { id: groupId, kid: primaryKid } }));
    }
    for (const { kid } of this.#groupKeys) {
      if (!wanted.has(kid)) this.#store.removeGroupKey(groupId, kid);
    }
    return this.reload();
  }

  #change(change: (record: RegistrationRecord) => RegistrationRecord): void {
    const record = readRegistration(this.#folder);
    if (record?.machineId !== this.#record.machineId) return;
    this.#record = change(record);
    writeRegistration(this.#folder, this.#record);
  }
}

/** Of all encryption keys of the machine that something may be sealed to; the present one first. */
export function encryptionKids(record: RegistrationRecord): readonly string[] {
  const { encryptionKid, nextEncryptionKid, formerEncryptionKids = [] } = record;
  const next = nextEncryptionKid === undefined ? [] : [nextEncryptionKid];
  return [encryptionKid, ...next, ...formerEncryptionKids];
}

function kidsOf(keys: readonly DispatchKey[]): string {
  return keys.map(({ kid }) => kid).join(' ');
}
