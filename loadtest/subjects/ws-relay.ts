import { ANSWERING } from '../support/generator.ts';
import { startProcess, typescriptProgram } from '../support/process.ts';
import { portOf } from './port.ts';
import type { Subject } from './subject.ts';

/** A relay of the same shape as ours, thirty lines over the `ws` package. */
export async function startWsRelay(): Promise<Subject> {
  const server = await startProcess({
    name: 'ws-relay',
    command: typescriptProgram('servers/ws-relay.ts'),
    core: 'server',
    ready: portOf,
  });
  return {
    name: 'ws-relay',
    pid: server.pid,
    async connectPairs(generator, count) {
      const ids = Array.from({ length: count }, (_, id) => id);
      const opened = generator.opened(ids.flatMap(id => [id, ANSWERING + id]));
      for (const id of ids) {
        generator.dial(id, server.found, `/a/${id}`);
        generator.dial(ANSWERING + id, server.found, `/b/${id}`);
      }
      await opened;
      for (const id of ids) generator.pair(id, ANSWERING + id);
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
