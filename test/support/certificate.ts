import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Certificate extends Disposable {
  readonly certFile: string;
  readonly keyFile: string;
}

/**
 * A certificate for 127.0.0.1 and localhost that nobody vouches for, in a folder of its own. `names`: whom it is for
 * besides, as in `DNS:relay.test`; `key`: of what kind.
 */
export function makeCertificate(
  names: readonly string[] = [],
  key = 'ec -pkeyopt ec_paramgen_curve:prime256v1',
): Certificate {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-test-'));
  const certFile = join(folder, 'cert.pem');
  const keyFile = join(folder, 'key.pem');
  const options = [
    `req -x509 -nodes -days 2 -subj /CN=localhost -newkey ${key}`,
    `-addext subjectAltName=${['DNS:localhost', 'IP:127.0.0.1', ...names].join(',')}`,
  ].flatMap(words => words.split(' '));
  execFileSync('openssl', [...options, '-keyout', keyFile, '-out', certFile], { stdio: 'ignore' });
  return {
    certFile,
    keyFile,
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}
