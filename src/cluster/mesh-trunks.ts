import type { Channel } from '../relay/ports.ts';
import type { MeshStream } from './mesh-stream.ts';

/** Streams of many pairs on one connection between two nodes. See transports/native-trunk.ts. */
export interface Trunk {
  open(record: Uint8Array): Channel | undefined;
  readonly streams: number;
  destroy(): void;
}

/** Makes a trunk of a connection; the node that made the connection opens the streams. */
export type MakeTrunk = (
  stream: MeshStream,
  side: 'opens' | 'takes',
  handlers: {
    readonly opened: (channel: Channel, record: Uint8Array) => void;
    readonly gone: () => void;
  },
) => Trunk | undefined;

/**
 * Streams to a node are dealt out to so many trunks. Few, that each write carries much; not one, for what the network
 * loses holds up a whole trunk, and the kernel gives a connection only so much of buffers.
 */
export const TRUNKS_PER_NODE = 4;

/** The trunks from and to this node: some to each node that streams were opened to, each made with its first stream. */
export class MeshTrunks {
  readonly #make: MakeTrunk;
  readonly #told: (channel: Channel, record: Uint8Array) => void;
  /** By node, and their place. */
  readonly #out = new Map<string, Promise<Trunk | undefined>>();
  #opened = 0;
  readonly #all = new Map<Trunk, string>();

  /** `opened`: another node has opened a stream on one of its trunks. */
  constructor(make: MakeTrunk, opened: (channel: Channel, record: Uint8Array) => void) {
    this.#make = make;
    this.#told = opened;
  }

  /** Connections that are trunks. */
  get count(): number {
    return this.#all.size;
  }

  /** Streams on all of them that are not over. */
  get streams(): number {
    return [...this.#all.keys()].reduce((sum, trunk) => sum + trunk.streams, 0);
  }

  /**
   * A stream to that node, on the trunk that is there or on the one that `dial` makes. Undefined: there is none, and
   * none can be made now. Rejects when `dial` does.
   */
  async open(
    nodeId: string,
    record: Uint8Array,
    dial: () => Promise<MeshStream>,
  ): Promise<Channel | undefined> {
    this.#opened += 1;
    const trunk = await this.#trunkAt(`${nodeId} ${this.#opened % TRUNKS_PER_NODE}`, dial);
    return trunk?.open(record);
  }

  /** Another node has made this connection to open streams on it. */
  take(stream: MeshStream): void {
    this.#keep(stream, 'takes', () => {});
  }

  destroyFor(nodeId: string): void {
    for (const [trunk, other] of this.#all) if (other === nodeId) trunk.destroy();
  }

  close(): void {
    for (const trunk of this.#all.keys()) trunk.destroy();
  }

  #trunkAt(place: string, dial: () => Promise<MeshStream>): Promise<Trunk | undefined> {
    const known = this.#out.get(place);
    if (known !== undefined) return known;
    const forget = (): void => {
      if (this.#out.get(place) === made) this.#out.delete(place);
    };
    const make = async (): Promise<Trunk | undefined> => {
      try {
        const trunk = this.#keep(await dial(), 'opens', forget);
        if (trunk === undefined) forget();
        return trunk;
      } catch (error) {
        forget();
        throw error;
      }
    };
    const made = make();
    this.#out.set(place, made);
    return made;
  }

  #keep(stream: MeshStream, side: 'opens' | 'takes', onGone: () => void): Trunk | undefined {
    const trunk: Trunk | undefined = this.#make(stream, side, {
      opened: this.#told,
      gone: () => {
        onGone();
        if (trunk !== undefined) this.#all.delete(trunk);
      },
    });
    if (trunk !== undefined) this.#all.set(trunk, stream.nodeId);
    return trunk;
  }
}
