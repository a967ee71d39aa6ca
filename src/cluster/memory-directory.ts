import { DIRECTORY_TIMES, type DirectoryTimes } from './limits.ts';
import type { ListenerDirectory, MeshVersions } from './listener-directory.ts';
import { MemberDirectory } from './member-directory.ts';
import type { MemoryCoordinator } from './memory-coordinator.ts';
import type { MemoryLink } from './memory-link.ts';

export interface MemoryDirectoryOptions {
  readonly node: string;
  readonly meshAddress: string;
  readonly versions: MeshVersions;
  readonly times?: Partial<DirectoryTimes>;
  readonly reportBug: (bug: unknown) => void;
}

/**
 * A directory without Redis: several of them on one coordinator make a cluster in one process. `link`
 * can be cut to see what a directory does alone.
 */
export function openMemoryDirectory(
  coordinator: MemoryCoordinator,
  options: MemoryDirectoryOptions,
): { readonly directory: ListenerDirectory; readonly link: MemoryLink } {
  const link = coordinator.link();
  const { node, meshAddress, versions, reportBug } = options;
  const times = { ...DIRECTORY_TIMES, ...options.times };
  const directory = new MemberDirectory({
    coordinator: link,
    clock: coordinator.clock,
    times,
    node,
    meshAddress,
    versions,
    reportBug,
  });
  return { directory, link };
}
