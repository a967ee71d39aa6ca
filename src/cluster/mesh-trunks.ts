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

/** The trunks from and to this node: one to each node that a stream was opened to, made with the first of them. */
export class MeshTrunks {
  readonly #make: MakeTrunk;
  readonly #opened: (channel: Channel, record: Uint8Array) => void;
  readonly #out = new Map<string, Promise<Trunk | undefined>>();
  readonly #all = new Map<Trunk, string>();

  /** `opened`: another node has opened a stream on one of its trunks. */
  constructor(make: MakeTrunk, opened: (channel: Channel, record: Uint8Array) => void) {
    this.#make = make;
    this.#opened = opened;
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
    const trunk = await this.#trunkTo(nodeId, dial);
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

  #trunkTo(nodeId: string, dial: () => Promise<MeshStream>): Promise<Trunk | undefined> {
    const known = this.#out.get(nodeId);
    if (known !== undefined) return known;
    const forget = (): void => {
      if (this.#out.get(nodeId) === made) this.#out.delete(nodeId);
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
    this.#out.set(nodeId, made);
    return made;
  }

  #keep(stream: MeshStream, side: 'opens' | 'takes', onGone: () => void): Trunk | undefined {
    const trunk: Trunk | undefined = this.#make(stream, side, {
      opened: this.#opened,
      gone: () => {
        onGone();
        if (trunk !== undefined) this.#all.delete(trunk);
      },
    });
    if (trunk !== undefined) this.#all.set(trunk, stream.nodeId);
    return trunk;
  }
}
