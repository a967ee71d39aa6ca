import type { RunScript } from '../redis/scripts.ts';

/** The store's scripts; the header of each Lua file is its contract. */
export function storeScripts(load: (file: URL) => RunScript) {
  const script = (name: string): RunScript =>
    load(new URL(`./scripts/${name}.lua`, import.meta.url));
  return {
    putRecord: script('put-record'),
    deleteRecord: script('delete-record'),
    readRecords: script('read-records'),
    readChanges: script('read-changes'),
    restoreRecords: script('restore-records'),
  };
}
