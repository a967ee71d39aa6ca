// Builds the native data plane into native/build/<ABI>/halfway_splice.node. Plain JavaScript without packages, because
// it runs as npm's postinstall. Does nothing when the result is newer than its sources.
//
//   node scripts/build-native.mjs              a failure is a warning, and exit code 0: there is a fallback
//   node scripts/build-native.mjs --required   a failure is exit code 1
//   node scripts/build-native.mjs --sanitize   also builds <ABI>-asan/, loaded when HALFWAY_NATIVE_BUILD=asan
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NATIVE = join(ROOT, 'native');
const ADDON = 'halfway_splice.node';
/** Programs that node-gyp needs, and the Debian package that brings each. */
const BUILD_PROGRAMS = { python3: 'python3', make: 'make', 'g++': 'g++' };

const isRequired = process.argv.includes('--required');
const isSanitized = process.argv.includes('--sanitize');

const fault = build(isSanitized);
if (fault !== undefined) {
  console.error(
    `halfway: the native data plane could not be built: ${fault}\n` +
      'halfway: without it the relay falls back to whole messages: no streaming of fragments, no half-close, ' +
      'no unlimited message size, and several times the CPU per message.',
  );
  process.exitCode = isRequired ? 1 : 0;
}

/** Returns what went wrong and what to do, or undefined. */
function build(sanitize) {
  const abi = process.versions.modules;
  const folder = join(NATIVE, 'build', sanitize ? `${abi}-asan` : abi);
  const result = join(folder, ADDON);
  if (isUpToDate(result)) return undefined;

  const missing = Object.entries(BUILD_PROGRAMS)
    .filter(([program]) => spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0)
    .map(([, name]) => name);
  if (missing.length > 0) {
    return `${missing.join(', ')} missing. Run: apt-get install -y ${missing.join(' ')} && npm run build:native`;
  }
  const nodeGyp = findNodeGyp();
  if (nodeGyp === undefined) {
    return 'node-gyp was not found beside npm. Reinstall npm, then run: npm run build:native';
  }

  mkdirSync(join(NATIVE, 'build'), { recursive: true });
  // On the same file system as the result, so that moving it is atomic: a running process keeps the file it has.
  const work = mkdtempSync(join(NATIVE, 'build', 'work-'));
  try {
    cpSync(join(NATIVE, 'binding.gyp'), join(work, 'binding.gyp'));
    cpSync(join(NATIVE, 'src'), join(work, 'src'), { recursive: true });
    const options = [
      'rebuild',
      '--silent',
      '--directory',
      work,
      ...(sanitize ? ['--', '-Dsanitize=1'] : []),
    ];
    const run = spawnSync(process.execPath, [nodeGyp, ...options], {
      env: gypEnvironment(),
      encoding: 'utf8',
    });
    if (run.status !== 0) {
      console.error(`${run.stdout ?? ''}${run.stderr ?? ''}`);
      return "the compiler's messages are above. Then run: npm run build:native";
    }
    mkdirSync(folder, { recursive: true });
    renameSync(join(work, 'build', 'Release', ADDON), result);
    return undefined;
  } catch (error) {
    return `${error.message}. Then run: npm run build:native`;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function isUpToDate(result) {
  if (!existsSync(result)) return false;
  const made = statSync(result).mtimeMs;
  const sources = readdirSync(join(NATIVE, 'src')).map(name => join(NATIVE, 'src', name));
  return [...sources, join(NATIVE, 'binding.gyp')].every(
    source => statSync(source).mtimeMs <= made,
  );
}

/** npm brings its own node-gyp. Where npm lies differs: as running now, beside Node, or where npm says. */
function findNodeGyp() {
  const npmFolders = [];
  if (process.env.npm_execpath !== undefined)
    npmFolders.push(dirname(dirname(process.env.npm_execpath)));
  npmFolders.push(join(dirname(dirname(process.execPath)), 'lib', 'node_modules', 'npm'));
  const found = npmFolders.map(inNpm).find(existsSync);
  if (found !== undefined) return found;
  const root = spawnSync('npm', ['root', '-g'], { encoding: 'utf8' });
  const last = inNpm(join(root.stdout?.trim() ?? '', 'npm'));
  return root.status === 0 && existsSync(last) ? last : undefined;
}

function inNpm(folder) {
  return join(folder, 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
}

/**
 * The addon must be compiled with the headers of the very Node that will load it; others compile without a word.
 * Where they lie beside it, node-gyp is told so, by the variable: npm's configuration would win over the flag.
 */
function gypEnvironment() {
  const environment = { ...process.env };
  const prefix = dirname(dirname(process.execPath));
  if (existsSync(join(prefix, 'include', 'node', 'node.h')))
    environment.npm_config_nodedir = prefix;
  return environment;
}
