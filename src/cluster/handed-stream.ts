import type { Channel } from '../relay/ports.ts';
import type { JsonRecord } from '../protocol/mesh-frames.ts';

/**
 * In place of a stream: the client's connection itself, which its node has given to this one. Only between nodes of one
 * machine. Nothing of it goes through the other node any more.
 */
export class HandedStream {
  /** The node that gave it. */
  readonly nodeId: string;
  readonly head: JsonRecord;
  readonly channel: Channel;

  constructor(nodeId: string, head: JsonRecord, channel: Channel) {
    this.nodeId = nodeId;
    this.head = head;
    this.channel = channel;
  }
}

/** How connections of clients go to other processes of this machine. See transports/native-hand-over.ts. */
export interface HandOver {
  take(
    name: string,
    onTaken: (channel: Channel, record: Uint8Array) => void,
  ): (() => void) | undefined;
  give(channel: Channel, name: string, record: Uint8Array): Promise<boolean>;
}
