import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { hasCode, MachineError, textOf } from './machine-error.ts';

/** How secrets are kept in files. The file's name is bound to it: one file's bytes do not open as another's. */
export interface Protector {
  readonly name: 'plain' | 'wrapped';
  /** What to write. `secret` stays the caller's to wipe. */
  protect(fileName: string, secret: Uint8Array): Buffer;
  /** The secret, to be wiped. Throws a `MachineError` when it cannot be had. */
  reveal(fileName: string, written: Uint8Array): Buffer;
  /** Whether this protector would write it better than it is. */
  isWeaker(written: Uint8Array): boolean;
}

/** Name of the systemd credential that wraps the keys. */
export const CREDENTIAL_NAME = 'machine-key';
const WRAPPING_BYTES_MIN = 32;
const KEK_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const INFO = 'hyco-jobs/1 machine-key-file';

const writtenSchema = v.variant('protection', [
  v.object({ v: v.literal(1), protection: v.literal('plain'), secret: v.string() }),
  v.object({
    v: v.literal(1),
    protection: v.literal('wrapped'),
    nonce: v.string(),
    wrapped: v.string(),
  }),
]);
type Written = v.InferOutput<typeof writtenSchema>;

/**
 * Wrapped where there is something to wrap with: the file that is named, or the systemd credential
 * `machine-key` ($CREDENTIALS_DIRECTORY), at least 32 bytes of either; otherwise plain.
 */
export function protectorOf(
  env: Readonly<Record<string, string | undefined>>,
  wrappingKeyFile?: string,
): Protector {
  const folder = env['CREDENTIALS_DIRECTORY'] ?? '';
  const ofUnit = folder === '' ? undefined : join(folder, CREDENTIAL_NAME);
  const path = wrappingKeyFile ?? ofUnit;
  if (path === undefined) return plainProtector();
  let key: Buffer;
  try {
    key = readFileSync(path);
  } catch (error) {
    if (wrappingKeyFile === undefined && hasCode(error, 'ENOENT')) return plainProtector();
    throw new MachineError('State', `Cannot read the wrapping key: ${textOf(error)}`, {
      cause: error,
    });
  }
  try {
    return wrappingProtector(key);
  } finally {
    key.fill(0);
  }
}

export function plainProtector(): Protector {
  return {
    name: 'plain',
    protect: (_fileName, secret) =>
      encode({ v: 1, protection: 'plain', secret: Buffer.from(secret).toString('base64url') }),
    reveal: (fileName, bytes) => {
      const written = decode(fileName, bytes);
      if (written.protection === 'plain') return Buffer.from(written.secret, 'base64url');
      throw new MachineError(
        'State',
        `The key in "${fileName}" is wrapped by a key that is not here: the service gets it as its systemd ` +
          `credential "${CREDENTIAL_NAME}"; name the file with --wrapping-key-file for a command of your own`,
      );
    },
    isWeaker: () => false,
  };
}

export function wrappingProtector(wrappingKey: Uint8Array): Protector {
  if (wrappingKey.length < WRAPPING_BYTES_MIN) {
    throw new MachineError(
      'State',
      `The wrapping key has ${wrappingKey.length} bytes, and needs ${WRAPPING_BYTES_MIN} at least: ` +
        'make one with "openssl rand 32"',
    );
  }
  const kek = Buffer.from(hkdfSync('sha256', wrappingKey, new Uint8Array(0), INFO, KEK_BYTES));
  return {
    name: 'wrapped',
    protect: (fileName, secret) => {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', kek, nonce, { authTagLength: TAG_BYTES });
      cipher.setAAD(Buffer.from(fileName));
      const wrapped = Buffer.concat([cipher.update(secret), cipher.final(), cipher.getAuthTag()]);
      const [nonceText, wrappedText] = [nonce.toString('base64url'), wrapped.toString('base64url')];
      return encode({ v: 1, protection: 'wrapped', nonce: nonceText, wrapped: wrappedText });
    },
    reveal: (fileName, bytes) => {
      const written = decode(fileName, bytes);
      if (written.protection === 'plain') return Buffer.from(written.secret, 'base64url');
      return unwrap(kek, fileName, written);
    },
    isWeaker: written => decode('', written).protection === 'plain',
  };
}

function unwrap(
  kek: Buffer,
  fileName: string,
  written: Extract<Written, { protection: 'wrapped' }>,
): Buffer {
  const nonce = Buffer.from(written.nonce, 'base64url');
  const bytes = Buffer.from(written.wrapped, 'base64url');
  const end = bytes.length - TAG_BYTES;
  if (nonce.length === NONCE_BYTES && end > 0) {
    const decipher = createDecipheriv('aes-256-gcm', kek, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(Buffer.from(fileName));
    decipher.setAuthTag(bytes.subarray(end));
    const secret = decipher.update(bytes.subarray(0, end));
    try {
      decipher.final();
      return secret;
    } catch {
      // The tag does not fit, which is how GCM says no; said below.
      secret.fill(0);
    }
  }
  throw new MachineError(
    'State',
    `The key in "${fileName}" does not open with this wrapping key: it is another computer's, or was changed`,
  );
}

function encode(written: Written): Buffer {
  return Buffer.from(`${JSON.stringify(written)}\n`);
}

function decode(fileName: string, bytes: Uint8Array): Written {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    // Said below, without what is in the file.
  }
  const parsed = v.safeParse(writtenSchema, value);
  if (parsed.success) return parsed.output;
  throw new MachineError(
    'State',
    `The file "${fileName}" is damaged: restore it, or register the machine anew with --force`,
  );
}
