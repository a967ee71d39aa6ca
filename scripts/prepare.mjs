// Makes `npm start` and `npm test` one command on a fresh clone. Plain JavaScript without packages, because it
// runs before anything is installed. Each step runs only when what it makes is missing or older than its sources.
//
//   node scripts/prepare.mjs run    packages, native data plane, dist/; nothing of the system is touched
//   node scripts/prepare.mjs test   the same, and the system packages that the tests use
//
// Writes to standard error only: standard output belongs to the program that starts afterwards.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
/** Oldest supported version of each supported major. */
const NODE_VERSIONS = { 20: '20.19.0', 22: '22.0.0' };
/** What the tests run or compile with, and the Debian package that brings each; g++ brings AddressSanitizer too. */
const TEST_PROGRAMS = {
  'g++': 'g++',
  make: 'make',
  python3: 'python3',
  haproxy: 'haproxy',
  nginx: 'nginx-light',
  tinyproxy: 'tinyproxy-bin',
  'redis-server': 'redis-server',
  openssl: 'openssl',
  curl: 'curl',
  chromium: 'chromium',
  ip: 'iproute2',
  systemctl: 'systemd',
  useradd: 'passwd',
};
/** Debian's daemons live there, and the PATH of people who are not root leaves it out. */
const SEARCH_PATH = `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin`;
const LOCKED = '--locked';

/**
 * Installs the packages named in its arguments. Daemons among them do not start (`policy-rc.d` is how Debian is told
 * so): the tests start their own. The lists are fetched only when the present ones are not enough, and what one
 * broken source says then does not matter when the packages can be had.
 */
const APT_SCRIPT = `
  set -eu
  export DEBIAN_FRONTEND=noninteractive
  if ! [ -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
  fi
  install() { apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"; }
  install "$@" 2>/dev/null || { apt-get update -qq || true; install "$@"; }
`;

const purpose = process.argv[2];
process.chdir(ROOT);
if (purpose !== 'run' && purpose !== 'test') fail('Usage: node scripts/prepare.mjs run|test');
checkNode();
if (process.argv[3] === LOCKED) prepare();
else takeTurns();

/**
 * Two preparations at once would pull the files away under each other, so each holds a lock on the repository's
 * folder. The kernel lets go of it when its holder ends, however that happens, and no file is left behind.
 */
function takeTurns() {
  const isFree = spawnSync('flock', ['--nonblock', ROOT, 'true']);
  // Every Debian has flock; where it is missing, starting is worth more than taking turns.
  if (isFree.error !== undefined) return prepare();
  if (isFree.status !== 0) say('another run prepares this folder, waiting for it');
  const self = [process.execPath, fileURLToPath(import.meta.url), purpose, LOCKED];
  const turn = spawnSync('flock', ['--close', ROOT, ...self], { stdio: ['ignore', 2, 2] });
  process.exitCode = turn.status ?? 1;
}

function prepare() {
  // Compilers first: installing packages compiles.
  if (purpose === 'test') installTestPrograms();
  installPackages();
  buildNative();
  buildDist();
}

function checkNode() {
  const { node } = process.versions;
  const oldest = NODE_VERSIONS[node.split('.')[0]];
  const isNew = oldest !== undefined && node.localeCompare(oldest, 'en', { numeric: true }) >= 0;
  const system = `${process.platform} ${process.arch}`;
  if (!isNew || system !== 'linux x64') {
    fail(
      `Cannot run here: Halfway needs Linux x64 and Node 20 (20.19 or later) or 22; this is ${system} with ` +
        `Node ${node}. The Docker image brings what it needs: docker build -t halfway .`,
    );
  }
  // uWebSockets.js is a program for glibc.
  if (process.report.getReport().header.glibcVersionRuntime === undefined) {
    fail(
      'Cannot run here: Halfway needs a Linux with glibc, such as Debian or Ubuntu; Alpine has none.',
    );
  }
}

function installTestPrograms() {
  const missing = Object.entries(TEST_PROGRAMS)
    .filter(([program]) => !isInstalled(program))
    .map(([, name]) => name);
  if (missing.length === 0) return;
  const names = missing.join(' ');
  const byHand = `apt-get update && apt-get install -y --no-install-recommends ${names}`;
  if (!isInstalled('apt-get')) {
    fail(
      `The tests need ${names}, as Debian's packages are called. Install them, then run npm test again.`,
    );
  }
  const sudo = process.getuid() === 0 ? [] : ['sudo', '--non-interactive'];
  if (sudo.length > 0 && spawnSync('sudo', ['--non-interactive', 'true']).status !== 0) {
    fail(`The tests need ${names}. Run as root, then npm test again:\n\n  ${byHand}\n`);
  }
  run(
    [...sudo, 'sh', '-c', APT_SCRIPT, 'sh', ...missing],
    `installing ${names} with apt-get`,
    byHand,
  );
}

function installPackages() {
  const isFresh = isNewer('node_modules/.package-lock.json', ['package-lock.json']);
  // uWebSockets.js has a package for each Node, and npm installs that of the Node it runs on.
  const addon = `node_modules/@uwsjs/linux-x64-${process.versions.node.split('.')[0]}`;
  if (isFresh && existsSync(addon)) return;
  run(['npm', 'ci'], 'installing packages', 'npm ci');
}

function buildNative() {
  // Installing has tried already; this catches sources that changed since, and tells again why there is none.
  run([process.execPath, 'scripts/build-native.mjs'], undefined, 'npm run build:native');
}

function buildDist() {
  const sources = [...pathsBelow('src'), 'tsconfig.json', 'package-lock.json', 'scripts/build.mjs'];
  if (isNewer('dist/main.js', sources)) return;
  run(['npm', 'run', '--silent', 'build'], 'building', 'npm run build');
}

/** Runs a step. Ends everything when it fails, naming the command to try by hand. */
function run([command, ...args], what, byHand) {
  if (what !== undefined) say(what);
  // What installers print is not a result, so it goes to standard error.
  const { status, signal, error } = spawnSync(command, args, { stdio: ['ignore', 2, 2] });
  if (status === 0) return;
  const why = error?.message ?? (signal === null ? `exit code ${status}` : signal);
  fail(`Failed (${why}), see the lines above. To try this step by itself:\n\n  ${byHand}\n`);
}

function isInstalled(program) {
  const env = { ...process.env, PATH: SEARCH_PATH };
  return spawnSync('sh', ['-c', 'command -v "$1"', 'sh', program], { env }).status === 0;
}

function isNewer(target, sources) {
  if (!existsSync(target)) return false;
  const made = statSync(target).mtimeMs;
  return sources.every(source => statSync(source).mtimeMs <= made);
}

/** Files and folders: a folder is newer than what was made from it when a file in it came or went. */
function pathsBelow(folder) {
  const below = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return [folder, ...below.map(path => join(folder, path))];
}

function say(message) {
  console.error(`halfway: ${message}`);
}

function fail(message) {
  say(message);
  process.exit(1);
}
