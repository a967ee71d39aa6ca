// Builds dist/ from src/: TypeScript by tsc, the web portal by Vite, everything else copied as it is. Built aside and
// moved into place when it is whole: a build that fails leaves the old one, and a program that runs from it finds its
// files until the end.
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, renameSync, rmSync } from 'node:fs';
import { buildPortal } from '../src/portal/build.mjs';

const ASIDE = 'dist.new';
const OLD = 'dist.old';

rmSync(ASIDE, { recursive: true, force: true });
execFileSync('node_modules/.bin/tsc', ['-p', 'src', '--outDir', ASIDE, '--noEmitOnError'], {
  stdio: 'inherit',
});
cpSync('src', ASIDE, {
  recursive: true,
  filter: path => path !== 'src/portal' && !/\.ts$|tsconfig\.json$/.test(path),
});
await buildPortal(`${ASIDE}/portal`);
chmodSync(`${ASIDE}/main.js`, 0o755);
rmSync(OLD, { recursive: true, force: true });
try {
  renameSync('dist', OLD);
} catch (error) {
  if (error.code !== 'ENOENT') throw error;
}
renameSync(ASIDE, 'dist');
rmSync(OLD, { recursive: true, force: true });
