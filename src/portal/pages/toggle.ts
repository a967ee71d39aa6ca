import type { Api } from '../api/client.ts';
import { toProblem } from '../api/problem.ts';
import { notify } from '../ui/parts.tsx';

/** Switches maintenance of a machine or group; what goes wrong is said in a notice. Never rejects. */
export async function toggle(of: {
  readonly api: Api;
  readonly path: string;
  readonly version: number;
  readonly maintenance: boolean;
}): Promise<void> {
  const { api, path, version, maintenance } = of;
  try {
    await api.act('PATCH', path, { ifMatch: version, body: { maintenance } });
    notify(maintenance ? 'Maintenance is on' : 'Back in service');
  } catch (error) {
    notify(toProblem(error).message);
  }
}
