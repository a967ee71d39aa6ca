import type { Channel, DataPlane, Meter } from '../relay/ports.ts';
import { spliceFragments } from '../relay/splice.ts';

/**
 * Rendezvous that listeners dialled here and whose senders are on other nodes: each joined with the
 * stream to the sender's node, which does all the rest.
 */
export class Hops {
  /** Bytes and frames to the sender's node, and back; as `TrafficCounters` orders them. */
  readonly traffic = new Float64Array(4);
  readonly #dataPlane: DataPlane;
  readonly #meter: Meter;
  readonly #open = new Set<{ readonly rendezvous: Channel; readonly stream: Channel }>();

  constructor(dataPlane: DataPlane, meter: Meter) {
    this.#dataPlane = dataPlane;
    this.#meter = meter;
  }

  get count(): number {
    return this.#open.size;
  }

  join(rendezvous: Channel, stream: Channel): void {
    const hop = { rendezvous, stream };
    this.#open.add(hop);
    this.#meter.count('halfway_mesh_hops_total', {});
    const onEnd = (): void => void this.#open.delete(hop);
    if (!this.#dataPlane.join(rendezvous, stream, this.traffic, onEnd)) {
      spliceFragments(rendezvous, stream, this.traffic, onEnd);
    }
  }

  closeAll(code: number, reason: string): void {
    for (const { rendezvous, stream } of this.#open) {
      rendezvous.close(code, reason);
      stream.close(code, reason);
    }
  }
}
