import type { KeyObject } from 'node:crypto';
import { decodeBase64Url } from '../crypto/base64url.ts';
import { newSigningKey, pointOf, signingKeyOf } from '../crypto/es256.ts';
import { keyIdOf } from '../crypto/key-id.ts';
import { newScalar, openingKeyOf, type OpeningKey } from '../crypto/key-pair.ts';
import { MachineError } from './machine-error.ts';
import type { Protector } from './protector.ts';
import type { StateFolder } from './state-folder.ts';

/** Who the machine is. It signs, and opens nothing. */
export interface IdentityKey {
  readonly kid: string;
  readonly privateKey: KeyObject;
  /** The public key, an uncompressed point, base64url. */
  readonly point: string;
}

/** The keys of one registration: always two different pairs. */
export interface MachineKeys {
  readonly identity: IdentityKey;
  readonly encryption: OpeningKey;
}

/** Keys that exist in memory only, until the registration that they were made for is there. */
export interface NewKeys extends MachineKeys {
  /** Writes them to disk. Those that are there stay. */
  keep(): void;
  /** Wipes what could be written. */
  drop(): void;
}

/**
 * The private keys of a machine in its state folder, one file each, under a `Protector`. They leave this
 * computer in no form but one: a group's under the group password. Source: job-dispatch.md section 12.8.
 */
export class KeyStore {
  readonly #folder: StateFolder;
  readonly #protector: Protector;

  constructor(folder: StateFolder, protector: Protector) {
    this.#folder = folder;
    this.#protector = protector;
  }

  /** How keys are kept. */
  get protection(): Protector['name'] {
    return this.#protector.name;
  }

  async make(): Promise<NewKeys> {
    const pkcs8 = Buffer.from(newSigningKey(), 'base64url');
    const identity = await identityOf(pkcs8);
    const scalar = await newScalar();
    const encryption = await openingKeyOf(scalar);
    const drop = (): void => {
      pkcs8.fill(0);
      scalar.fill(0);
    };
    return {
      identity,
      encryption,
      keep: () => {
        this.#write(identityFile(identity.kid), pkcs8);
        this.#write(encryptionFile(encryption.kid), scalar);
        drop();
      },
      drop,
    };
  }

  /** Throws a `MachineError` when one of them is not there. */
  async load(kids: {
    readonly identity: string;
    readonly encryption: string;
  }): Promise<MachineKeys> {
    return {
      identity: await this.identityKey(kids.identity),
      encryption: await this.encryptionKey(kids.encryption),
    };
  }

  async identityKey(kid: string): Promise<IdentityKey> {
    return this.#with(identityFile(kid), identityOf);
  }

  /** Makes and keeps another identity key. */
  async addIdentityKey(): Promise<IdentityKey> {
    const pkcs8 = Buffer.from(newSigningKey(), 'base64url');
    try {
      const identity = await identityOf(pkcs8);
      this.#write(identityFile(identity.kid), pkcs8);
      return identity;
    } finally {
      pkcs8.fill(0);
    }
  }

  removeIdentityKey(kid: string): void {
    this.#removeAll(name => name === identityFile(kid));
  }

  /** One of the machine's encryption keys. */
  async encryptionKey(kid: string): Promise<OpeningKey> {
    return this.#with(encryptionFile(kid), openingKeyOf);
  }

  /** Makes and keeps another encryption key. */
  async addEncryptionKey(): Promise<OpeningKey> {
    const scalar = await newScalar();
    try {
      const key = await openingKeyOf(scalar);
      this.#write(encryptionFile(key.kid), scalar);
      return key;
    } finally {
      scalar.fill(0);
    }
  }

  removeEncryptionKey(kid: string): void {
    this.#removeAll(name => name === encryptionFile(kid));
  }

  /** Keeps a group's private key. `scalar` stays the caller's to wipe. */
  keepGroupKey(groupId: string, kid: string, scalar: Uint8Array): void {
    this.#write(groupFile(groupId, kid), scalar);
  }

  /** All keys of a group that were ever given to this machine and not removed. */
  async groupKeys(groupId: string): Promise<readonly OpeningKey[]> {
    const files = this.#folder.names().filter(name => isOfGroup(name, groupId));
    return Promise.all(files.map(name => this.#with(name, openingKeyOf)));
  }

  /** Lends a group's private key to `use`, and wipes it. */
  async withGroupKey<T>(
    groupId: string,
    kid: string,
    use: (scalar: Uint8Array) => Promise<T>,
  ): Promise<T> {
    return this.#with(groupFile(groupId, kid), use);
  }

  removeGroupKeys(groupId: string): void {
    this.#removeAll(name => isOfGroup(name, groupId));
  }

  removeGroupKey(groupId: string, kid: string): void {
    this.#removeAll(name => name === groupFile(groupId, kid));
  }

  /** Removes all but the keys of one registration; without one, all. */
  removeOthers(kept?: { readonly identity: string; readonly encryption: string }): void {
    const names = kept && [identityFile(kept.identity), encryptionFile(kept.encryption)];
    this.#removeAll(name => names?.includes(name) !== true);
  }

  /** Writes anew what is kept more weakly than this protector would. Returns how many were. */
  strengthen(): number {
    let count = 0;
    for (const name of this.#folder.names().filter(isKeyFile)) {
      const written = this.#folder.read(name);
      if (written === undefined || !this.#protector.isWeaker(written)) continue;
      const secret = this.#protector.reveal(name, written);
      try {
        this.#write(name, secret);
      } finally {
        secret.fill(0);
        written.fill(0);
      }
      count += 1;
    }
    return count;
  }

  #removeAll(isMeant: (name: string) => boolean): void {
    for (const name of this.#folder.names().filter(isKeyFile).filter(isMeant)) {
      this.#folder.wipe(name);
    }
  }

  #write(name: string, secret: Uint8Array): void {
    const bytes = this.#protector.protect(name, secret);
    this.#folder.write(name, bytes);
    bytes.fill(0);
  }

  async #with<T>(name: string, use: (secret: Buffer) => Promise<T>): Promise<T> {
    const written = this.#folder.read(name);
    if (written === undefined) {
      throw new MachineError(
        'State',
        `The key "${this.#folder.pathOf(name)}" is missing: restore it, or register the machine anew with --force`,
      );
    }
    const secret = this.#protector.reveal(name, written);
    try {
      return await use(secret);
    } finally {
      secret.fill(0);
      written.fill(0);
    }
  }
}

async function identityOf(pkcs8: Buffer): Promise<IdentityKey> {
  const privateKey = signingKeyOf(pkcs8.toString('base64url'));
  const point = pointOf(privateKey);
  const kid = await keyIdOf(decodeBase64Url(point) ?? new Uint8Array());
  return { kid, privateKey, point };
}

function identityFile(kid: string): string {
  return `identity.${kid}.key`;
}

function encryptionFile(kid: string): string {
  return `encryption.${kid}.key`;
}

function groupFile(groupId: string, kid: string): string {
  return `group.${groupId}~${kid}.key`;
}

const KID_CHARS = 43;

function isOfGroup(name: string, groupId: string): boolean {
  const kid = name.slice(-(KID_CHARS + '.key'.length), -'.key'.length);
  return name === groupFile(groupId, kid);
}

function isKeyFile(name: string): boolean {
  return name.endsWith('.key');
}
