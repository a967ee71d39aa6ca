import { Randomness } from '../../src/auth/randomness.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { Logger } from '../../src/base/logger.ts';
import type { MeshNode } from '../../src/cluster/mesh-link.ts';
import type { MeshLimits, MeshNodes, MeshOptions } from '../../src/cluster/mesh-options.ts';
import { Mesh } from '../../src/cluster/mesh.ts';
import type { Answer } from '../../src/cluster/mesh-wire.ts';
import type { MeshMessage } from '../../src/protocol/mesh-frames.ts';
import { Inbox } from './inbox.ts';
import { until } from './within.ts';

export const TEST_SECRET = 'a secret of nodes in tests, 0123456789';

/** Times so short that a test can wait for them, and so long that a busy machine does not trip over them. */
export const QUICK_LIMITS = {
  pingIntervalMs: 100,
  silenceMs: 500,
  backOff: { firstMs: 20, longestMs: 200 },
} as const satisfies Partial<MeshLimits>;

/** A list of nodes that the test writes. */
export class NodeList implements MeshNodes {
  #nodes: readonly MeshNode[] = [];
  readonly #listeners = new Set<() => void>();

  nodes(): readonly MeshNode[] {
    return this.#nodes;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  set(nodes: readonly MeshNode[]): void {
    this.#nodes = nodes;
    for (const listener of this.#listeners) listener();
  }
}

export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

export interface Heard {
  readonly from: string;
  readonly message: MeshMessage;
  readonly answer: Answer | undefined;
}

export interface MeshNodeOptions {
  readonly nodeId: string;
  readonly epoch?: string;
  readonly list?: NodeList;
  readonly credentials?: MeshOptions['credentials'];
  readonly limits?: Partial<MeshLimits>;
  readonly versions?: MeshOptions['versions'];
  /** Each as the mesh takes it; without them streams go over TCP. */
  readonly ways?: Pick<MeshOptions, 'local' | 'handOver'>;
  /** Instead of being put into `heard`. */
  readonly onMessage?: (heard: Heard) => void;
}

/** A mesh of one node, with everything it says written down. */
export class TestMeshNode implements AsyncDisposable {
  readonly nodeId: string;
  readonly list: NodeList;
  readonly mesh: Mesh;
  readonly heard: Inbox<Heard>;
  /** `up b`, `down b silent`, `drained b`. */
  readonly events: Inbox<string>;
  readonly log: LogLine[] = [];
  readonly counted: string[] = [];
  readonly bugs: unknown[] = [];
  epoch: string;

  constructor(options: MeshNodeOptions) {
    const { nodeId } = options;
    this.nodeId = nodeId;
    this.epoch = options.epoch ?? `life-of-${nodeId}.1`;
    this.list = options.list ?? new NodeList();
    this.heard = new Inbox(`message to ${nodeId}`);
    this.events = new Inbox(`event at ${nodeId}`);
    const hear = options.onMessage ?? ((heard: Heard) => this.heard.put(heard));
    this.mesh = new Mesh(
      {
        clock: systemClock,
        random: new Randomness(),
        log: this.#logger(),
        meter: {
          count: (name, labels) => {
            this.counted.push([name, ...Object.values(labels)].join(' '));
          },
          observe: () => {},
        },
        nodes: this.list,
        nodeId,
        epoch: () => this.epoch,
        handlers: {
          message: (from, message, answer) => hear({ from, message, answer }),
          up: from => this.events.put(`up ${from}`),
          down: (from, reason) => this.events.put(`down ${from} ${reason}`),
          drained: from => this.events.put(`drained ${from}`),
          bug: bug => this.bugs.push(bug),
        },
      },
      {
        host: '127.0.0.1',
        port: 0,
        credentials: options.credentials ?? { secret: TEST_SECRET },
        limits: { ...QUICK_LIMITS, ...options.limits },
        ...(options.versions === undefined ? {} : { versions: options.versions }),
        ...options.ways,
      },
    );
  }

  /** How others reach it; `at` another port, of a proxy. */
  node(at = this.mesh.port): MeshNode {
    return { nodeId: this.nodeId, epoch: this.epoch, meshAddress: `127.0.0.1:${at}` };
  }

  /** Waits until it has logged this event, from now or before. */
  async logged(event: string, reason?: string): Promise<LogLine> {
    const find = (): LogLine | undefined =>
      this.log.find(
        ({ fields }) =>
          fields['event'] === event && (reason === undefined || fields['reason'] === reason),
      );
    await until(`${this.nodeId} logs ${event} ${reason ?? ''}`, () => find() !== undefined);
    const line = find();
    if (line === undefined) throw new Error('unreachable');
    return line;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.mesh.close();
  }

  #logger(): Logger {
    const at =
      (level: LogLine['level']) =>
      (fields: object, message: string): void => {
        this.log.push({ level, fields: { ...fields }, message });
      };
    return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
  }
}

export async function startMeshNode(options: MeshNodeOptions): Promise<TestMeshNode> {
  const node = new TestMeshNode(options);
  await node.mesh.start();
  return node;
}

/** Two nodes, `a` and `b`, that know each other and have their link. */
export async function startPair(
  a: Partial<MeshNodeOptions> = {},
  b: Partial<MeshNodeOptions> = {},
): Promise<{ readonly a: TestMeshNode; readonly b: TestMeshNode } & AsyncDisposable> {
  const nodeA = await startMeshNode({ nodeId: 'a', ...a });
  const nodeB = await startMeshNode({ nodeId: 'b', ...b });
  introduce(nodeA, nodeB);
  await Promise.all([nodeA.events.next(), nodeB.events.next()]);
  return {
    a: nodeA,
    b: nodeB,
    [Symbol.asyncDispose]: async () => {
      await Promise.all([nodeA[Symbol.asyncDispose](), nodeB[Symbol.asyncDispose]()]);
    },
  };
}

/** Lets each know all. */
export function introduce(...nodes: readonly TestMeshNode[]): void {
  const known = nodes.map(node => node.node());
  for (const node of nodes) node.list.set(known);
}
