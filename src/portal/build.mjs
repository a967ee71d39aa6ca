// Builds the web portal into a folder, each file also compressed for the server to send as it is.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { build } from 'vite';

/** Below this a compressed answer is hardly shorter. */
const COMPRESSED_BYTES_MIN = 512;

/** `outDir` is emptied first. Rejects, having said why, when the sources do not build. */
export async function buildPortal(outDir) {
  const folder = resolve(outDir);
  await build({
    configFile: join(import.meta.dirname, 'vite.config.ts'),
    logLevel: 'warn',
    build: { outDir: folder },
  });
  for (const name of readdirSync(folder, { recursive: true })) {
    const path = join(folder, name);
    if (!statSync(path).isFile() || statSync(path).size < COMPRESSED_BYTES_MIN) continue;
    const bytes = readFileSync(path);
    writeFileSync(`${path}.br`, brotliCompressSync(bytes));
    writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }));
  }
}
