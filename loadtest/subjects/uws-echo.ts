import { startProcess, typescriptProgram } from '../support/process.ts';
import { portOf } from './port.ts';
import type { Subject } from './subject.ts';

/** Plain uWebSockets.js, echoing messages and answering every HTTP request with five bytes. */
export async function startUwsEcho(): Promise<Subject & { readonly port: number }> {
  const server = await startProcess({
    name: 'uws-echo',
    command: typescriptProgram('servers/uws-echo.ts'),
    core: 'server',
    ready: portOf,
  });
  return {
    name: 'uws-echo',
    pid: server.pid,
    port: server.found,
    prepare: () => Promise.resolve(),
    dialPair: (generator, id) => generator.dial(id, server.found, `/${id}`),
    answeringId: id => id,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
