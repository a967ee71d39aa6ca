import type { RunScript } from '../redis/scripts.ts';

/** The directory's scripts; the header of each Lua file is its contract. */
export function directoryScripts(load: (file: URL) => RunScript) {
  const script = (name: string): RunScript =>
    load(new URL(`./scripts/${name}.lua`, import.meta.url));
  return {
    takeLease: script('take-lease'),
    renewLease: script('renew-lease'),
    describeNode: script('describe-node'),
    leave: script('leave'),
    challengeNode: script('challenge-node'),
    removeNodes: script('remove-nodes'),
    claimListener: script('claim-listener'),
    writeListeners: script('write-listeners'),
    releaseListeners: script('release-listeners'),
    readState: script('read-state'),
    collectGarbage: script('collect-garbage'),
  };
}
