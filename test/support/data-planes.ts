import { loadNativePlane } from '../../src/transports/native-plane.ts';

/** What a data plane promises a joined pair beyond whole messages, in order, and their close codes. */
export type PairPromise =
  /** Close codes from 3000 to 3999 cross, too. */
  | 'all close codes'
  /** A Close ends its own direction only: the other side may go on until its own Close. */
  | 'half-close'
  /** Pings and pongs cross with their payload. */
  | 'ping and pong through'
  /** Fragments cross as they come, before their message is complete, however long it gets. */
  | 'fragments'
  /** A reader that stands still stops its writer: nothing is lost, nothing piles up. */
  | 'back-pressure'
  /** Who breaks the protocol is told 1002, and so is its peer. */
  | 'violations are answered';

export interface DataPlaneUnderTest {
  readonly dataPlane: 'native' | 'messages';
  readonly promises: ReadonlySet<PairPromise>;
}

const MESSAGES: DataPlaneUnderTest = { dataPlane: 'messages', promises: new Set() };

const NATIVE: DataPlaneUnderTest = {
  dataPlane: 'native',
  promises: new Set([
    'all close codes',
    'half-close',
    'ping and pong through',
    'fragments',
    'back-pressure',
    'violations are answered',
  ]),
};

/** Whether the addon was built: where it cannot be, the tests of the fallback are what is left. */
export const HAS_NATIVE = 'plane' in loadNativePlane();

export const DATA_PLANES: readonly DataPlaneUnderTest[] = HAS_NATIVE
  ? [NATIVE, MESSAGES]
  : [MESSAGES];
