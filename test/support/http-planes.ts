import { loadNativePlane } from '../../src/transports/native-plane.ts';

/**
 * The data planes that the shared suites run on. The native one is left out where it is not built: then the relay runs
 * without it as well.
 */
export const DATA_PLANES: readonly ('messages' | 'native')[] =
  process.env['ONLY_MESSAGES'] === undefined && 'plane' in loadNativePlane()
    ? ['messages', 'native']
    : ['messages'];
