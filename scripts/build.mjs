// Builds dist/ from src/: TypeScript by tsc, everything else copied as it is.
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, rmSync } from 'node:fs';

rmSync('dist', { recursive: true, force: true });
execFileSync('node_modules/.bin/tsc', ['-p', 'src'], { stdio: 'inherit' });
cpSync('src', 'dist', { recursive: true, filter: path => !/\.ts$|tsconfig\.json$/.test(path) });
chmodSync('dist/main.js', 0o755);
