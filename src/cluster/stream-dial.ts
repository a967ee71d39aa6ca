import type { Clock } from '../base/clock.ts';
import type { MeshKeys } from './mesh-credentials.ts';
import { dialLocal, dialMesh, type Dialled } from './mesh-dial.ts';
import type { MeshNode } from './mesh-link.ts';

/**
 * What a stream goes over: nothing, for the client's connection was handed over; a Unix socket of this machine; or TCP.
 */
export const STREAM_PATHS = ['handed', 'local', 'tcp'] as const;
export type StreamPath = (typeof STREAM_PATHS)[number];

/** How long a node whose Unix socket could not be reached is reached by its address alone. */
const LOCAL_RETRY_MS = 10_000;

/** Makes connections for streams: by the node's Unix socket where that can be reached, else by its address. */
export class StreamDial {
  readonly #clock: Clock;
  readonly #keys: MeshKeys;
  readonly #timeoutMs: number;
  /** By node: its Unix socket could not be reached, most likely because it is on another machine. */
  readonly #elsewhere = new Map<string, { readonly name: string; readonly untilMs: number }>();

  constructor(deps: {
    readonly clock: Clock;
    readonly keys: MeshKeys;
    readonly timeoutMs: number;
  }) {
    this.#clock = deps.clock;
    this.#keys = deps.keys;
    this.#timeoutMs = deps.timeoutMs;
  }

  /** `localName`: its Unix socket. Never rejects. */
  async dial(
    node: MeshNode,
    localName: string | undefined,
  ): Promise<Dialled & { readonly path: StreamPath }> {
    const options = { clock: this.#clock, keys: this.#keys, timeoutMs: this.#timeoutMs };
    if (localName !== undefined && !this.#isElsewhere(node.nodeId, localName)) {
      const dialled = await dialLocal(localName, options);
      if ('socket' in dialled) return { ...dialled, path: 'local' };
      const untilMs = this.#clock.nowMs() + LOCAL_RETRY_MS;
      this.#elsewhere.set(node.nodeId, { name: localName, untilMs });
    }
    return { ...(await dialMesh(node.meshAddress, options)), path: 'tcp' };
  }

  forget(nodeId: string): void {
    this.#elsewhere.delete(nodeId);
  }

  #isElsewhere(nodeId: string, localName: string): boolean {
    const known = this.#elsewhere.get(nodeId);
    return known?.name === localName && this.#clock.nowMs() < known.untilMs;
  }
}
