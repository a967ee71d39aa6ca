import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { promises as fs } from 'node:fs';

/** A certificate chain and its private key as PEM text, known to belong together. */
export interface TlsCertificate {
  readonly cert: string;
  readonly key: string;
}

/**
 * Reads and checks a certificate and its key. The certificate file may hold a chain, the server's
 * own certificate first. Rejects with an Error that names the file and says what to do.
 */
export async function loadTlsCertificate(options: {
  readonly certFile: string;
  readonly keyFile: string;
}): Promise<TlsCertificate> {
  const { certFile, keyFile } = options;
  const cert = await readPem('certificate', certFile);
  const key = await readPem('key', keyFile);
  const leaf = parseCertificates(certFile, cert);
  const privateKey = parseKey(keyFile, key);
  if (!leaf.checkPrivateKey(privateKey)) {
    throw new Error(
      `Cannot use TLS key "${keyFile}": it does not belong to the first certificate of "${certFile}" ` +
        `(${leaf.subject.replaceAll('\n', ', ')}); give the matching pair, the server's own certificate first`,
    );
  }
  return { cert, key };
}

async function readPem(what: 'certificate' | 'key', file: string): Promise<string> {
  try {
    return await fs.readFile(file, 'utf8');
  } catch (cause) {
    throw new Error(
      `Cannot read TLS ${what} "${file}": ${messageOf(cause)}; check the path and that this user may read it`,
      { cause },
    );
  }
}

/** Checks every certificate of the chain and returns the first: a damaged intermediate shows only at clients. */
function parseCertificates(file: string, pem: string): X509Certificate {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  try {
    const [leaf] = blocks.map(block => new X509Certificate(block));
    if (leaf !== undefined) return leaf;
  } catch (cause) {
    throw new Error(
      `Cannot use TLS certificate "${file}": one of its ${blocks.length} blocks is damaged ` +
        `(${messageOf(cause)}); write the file again from the original`,
      { cause },
    );
  }
  throw new Error(
    `Cannot use TLS certificate "${file}": it holds no "BEGIN CERTIFICATE" block; give a PEM file`,
  );
}

function parseKey(file: string, pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    const remedy = /ENCRYPTED/.test(pem)
      ? 'it is encrypted; give a key without a passphrase and protect the file by its permissions'
      : `${messageOf(cause)}; give a PEM private key`;
    throw new Error(`Cannot use TLS key "${file}": ${remedy}`, { cause });
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
