// Makes `npm start` and `npm test` one command on a fresh clone. Plain JavaScript without packages, because it
// runs before anything is installed. Each step runs only when what it makes is missing or older than its sources.
//
//   node scripts/prepare.mjs run    packages, native data plane, dist/
//   node scripts/prepare.mjs test   the same, and the system packages that the tests use
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const NODE_MAJORS = [20, 22];
/** Programs the tests run for real, and the Debian package that brings each. */
const TEST_PROGRAMS = { haproxy: 'haproxy', openssl: 'openssl', 'g++': 'g++', make: 'make', python3: 'python3' };
const STAMP = 'node_modules/.halfway-abi';

const purpose = process.argv[2];
checkNode();
installPackages();
if (purpose === 'test') installTestPrograms();
buildNative();
buildDist();

function checkNode() {
  const major = Number(process.versions.node.split('.')[0]);
  if (NODE_MAJORS.includes(major) && process.platform === 'linux' && process.arch === 'x64') return;
  fail(
    `Cannot run here: Halfway needs Linux x64 and Node ${NODE_MAJORS.join(' or ')}, this is ` +
      `${process.platform} ${process.arch} with Node ${process.versions.node}. Use the Docker image instead.`,
  );
}

function installPackages() {
  const abi = process.versions.modules;
  const installed = existsSync(STAMP) && readFileSync(STAMP, 'utf8') === abi;
  if (installed && isNewer('node_modules/.package-lock.json', ['package-lock.json'])) return;
  run('npm', ['ci'], 'installing packages');
  writeFileSync(STAMP, abi);
}

function installTestPrograms() {
  const missing = Object.entries(TEST_PROGRAMS)
    .filter(([program]) => spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0)
    .map(([, name]) => name);
  if (missing.length === 0) return;
  const install = `apt-get update && apt-get install -y --no-install-recommends ${missing.join(' ')}`;
  const isRoot = process.getuid() === 0;
  const canSudo = !isRoot && spawnSync('sudo', ['-n', 'true']).status === 0;
  if (!isRoot && !canSudo) fail(`The tests need ${missing.join(', ')}. Run as root: ${install}`);
  run(...(isRoot ? ['sh', ['-c', install]] : ['sudo', ['sh', '-c', install]]), `installing ${missing.join(', ')}`);
}

function buildNative() {
  // `npm ci` has tried already; this catches sources that changed since, and installs without scripts.
  run('node', ['scripts/build-native.mjs'], undefined);
}

function buildDist() {
  if (isNewer('dist/main.js', filesBelow('src'))) return;
  run('npm', ['run', '--silent', 'build'], 'building');
}

function run(command, args, what) {
  if (what !== undefined) console.error(`halfway: ${what}`);
  try {
    // Results go to standard output; what installing prints is not one.
    execFileSync(command, args, { stdio: ['ignore', 2, 2], env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } });
  } catch {
    fail(`Failed while ${what ?? command}: see the lines above`);
  }
}

function isNewer(target, sources) {
  if (!existsSync(target)) return false;
  const made = statSync(target).mtimeMs;
  return sources.every(source => statSync(source).mtimeMs <= made);
}

function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath ?? entry.path, entry.name));
}

function fail(message) {
  console.error(`halfway: ${message}`);
  process.exit(1);
}
