import type { Config } from '../config/options.ts';
import type { StoreTraits } from './remote-store.ts';
import type { WorkerSpec } from './worker-protocol.ts';

/** Room for `-64` within the 64 characters of a node id. */
const NAME_CHARS_MAX = 60;

/**
 * What each of `count` workers is, by its node id `{node}-1`, `{node}-2`, … Without Redis they mesh on loopback with a
 * secret of this run; with it each is a node like any other, at a mesh port of its own.
 */
export function workerSpecs(
  config: Config,
  count: number,
  own: { readonly meshSecret: string; readonly store: StoreTraits | undefined },
): ReadonlyMap<string, WorkerSpec> {
  const hasParentCoordinator = config.redis === undefined;
  const { store } = own;
  const specs = Array.from({ length: count }, (_, i): readonly [string, WorkerSpec] => {
    const nodeId = `${config.nodeId.slice(0, NAME_CHARS_MAX)}-${i + 1}`;
    const mesh = hasParentCoordinator ? loopbackMesh(own.meshSecret) : meshAt(config, i);
    return [
      nodeId,
      {
        config: { ...config, ...mesh, nodeId },
        hasParentCoordinator,
        store: store === undefined ? undefined : { shown: store.shown, isDurable: store.isDurable },
        takesConnections: config.tlsCert !== undefined && config.tlsKey !== undefined,
      },
    ];
  });
  return new Map(specs);
}

type MeshOptions = Partial<
  Pick<
    Config,
    'meshHost' | 'meshPort' | 'meshAdvertise' | 'meshSecret' | 'meshCert' | 'meshKey' | 'meshCa'
  >
>;

function loopbackMesh(meshSecret: string): MeshOptions {
  return {
    meshHost: '127.0.0.1',
    meshPort: 0,
    meshAdvertise: undefined,
    meshSecret,
    meshCert: undefined,
    meshKey: undefined,
    meshCa: undefined,
  };
}

/** Ports count up from the one that is given, and so do those that are advertised. */
function meshAt({ meshPort, meshAdvertise }: Config, i: number): MeshOptions {
  return {
    meshPort: meshPort === 0 ? 0 : meshPort + i,
    meshAdvertise: meshAdvertise?.replace(/(?<=[^:]:|\]:)\d+$/, port => String(Number(port) + i)),
  };
}
