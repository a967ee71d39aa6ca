import { fileURLToPath } from 'node:url';

/** How an executor is started: a program and its arguments, none of which says anything of the run. */
export function executorProgram(): readonly [program: string, ...args: string[]] {
  const isSource = import.meta.url.endsWith('.ts');
  const file = new URL(`./executor-main.${isSource ? 'ts' : 'js'}`, import.meta.url);
  // From its sources it needs whatever reads them for this process too.
  const loader = isSource ? ['--import', import.meta.resolve('tsx')] : [];
  return [process.execPath, ...loader, fileURLToPath(file)];
}
