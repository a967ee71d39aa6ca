// Enters into package-lock.json those platform packages of uWebSockets.js that the registry does not have.
// Without them `npm ci` refuses a lock file as npm itself writes it. Run after every `npm install` that
// touched uWebSockets.js. What is entered is fetched on other systems only, where it is not found and,
// being optional, left out.
import { readFileSync, writeFileSync } from 'node:fs';

const lock = JSON.parse(readFileSync('package-lock.json', 'utf8'));
const { optionalDependencies } = lock.packages['node_modules/uWebSockets.js'];
for (const [name, version] of Object.entries(optionalDependencies)) {
  const [, os, cpu, node] = /^@uwsjs\/(\w+)-(\w+)-(\d+)$/.exec(name);
  lock.packages[`node_modules/${name}`] ??= {
    version,
    cpu: [cpu],
    license: 'Apache-2.0',
    optional: true,
    os: [os],
    engines: { node: `>=${node}.0.0 <${Number(node) + 1}.0.0` },
  };
}
const sorted = Object.entries(lock.packages).sort(([a], [b]) => a.localeCompare(b, 'en'));
lock.packages = Object.fromEntries(sorted);
writeFileSync('package-lock.json', `${JSON.stringify(lock, undefined, 2)}\n`);
