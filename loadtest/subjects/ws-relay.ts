import { startProcess, typescriptProgram } from '../support/process.ts';
import { portOf } from './port.ts';
import { separateAnsweringId } from './subject.ts';
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
    prepare: () => Promise.resolve(),
    dialPair(generator, id) {
      generator.dial(id, server.found, `/a/${id}`);
      generator.dial(separateAnsweringId(id), server.found, `/b/${id}`);
    },
    answeringId: separateAnsweringId,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
