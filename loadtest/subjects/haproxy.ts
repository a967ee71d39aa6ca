import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startSilentProcess } from '../support/process.ts';
import type { RunningProcess } from '../support/process.ts';
import { accepting, freePort } from './port.ts';
import { separateAnsweringId } from './subject.ts';
import type { Subject } from './subject.ts';

/**
 * HAProxy with one thread between the generator's clients and the generator as their server. In
 * mode http it understands the upgrade, as a balancer in front of WebSockets does, and copies bytes
 * from then on; in mode tcp it never looks at any.
 */
export function startHaproxy(mode: 'http' | 'tcp'): Subject {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-haproxy-'));
  let server: RunningProcess | undefined;
  let port = 0;

  async function start(backendPort: number): Promise<number> {
    const frontPort = await freePort();
    const configFile = join(folder, 'haproxy.cfg');
    writeFileSync(configFile, configuration({ mode, port: frontPort, backendPort }));
    server = startSilentProcess({
      name: 'haproxy',
      command: ['haproxy', '-db', '-f', configFile],
      core: 'server',
    });
    await accepting(frontPort);
    return frontPort;
  }

  return {
    name: mode === 'http' ? 'haproxy' : 'haproxy-tcp',
    get pid() {
      if (server === undefined) throw new Error('HAProxy starts with its first connection');
      return server.pid;
    },
    async prepare(generator) {
      port = await start(await generator.listen());
    },
    dialPair: (generator, id) => generator.dial(id, port, `/${separateAnsweringId(id)}`),
    answeringId: separateAnsweringId,
    async [Symbol.asyncDispose]() {
      await server?.[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  };
}

function configuration(options: {
  readonly mode: 'http' | 'tcp';
  readonly port: number;
  readonly backendPort: number;
}): string {
  return `
global
  nbthread 1
  maxconn 8192
defaults
  mode ${options.mode}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
frontend in
  bind 127.0.0.1:${options.port}
  default_backend out
backend out
  server generator 127.0.0.1:${options.backendPort}
`;
}
