import { HAS_NATIVE } from './data-planes.ts';

/** The data planes that the shared suites run on, the native one only where it is built. */
export const DATA_PLANES: readonly ('native' | 'messages')[] = HAS_NATIVE
  ? ['native', 'messages']
  : ['messages'];
