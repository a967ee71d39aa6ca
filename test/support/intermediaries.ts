import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { accepts, freePort } from './ports.ts';
import { until } from './within.ts';

/** A program of others' between a client and a relay. */
export interface Intermediary extends AsyncDisposable {
  readonly port: number;
}

/** Debian's daemons live there, and the PATH of people who are not root leaves it out. */
const PATH = `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin`;

/** nginx as people write it who never thought of WebSockets: `Upgrade` does not pass. */
export function startStrippingProxy(relayPort: number): Promise<Intermediary> {
  return startNginx(relayPort, '');
}

/** nginx that holds request bodies and responses until they are whole, and lets no `Upgrade` pass either. */
export function startBufferingProxy(relayPort: number): Promise<Intermediary> {
  const buffers =
    'proxy_buffering on; proxy_request_buffering on; proxy_buffers 16 64k; proxy_buffer_size 64k;' +
    ' proxy_busy_buffers_size 128k; postpone_output 1460; client_body_buffer_size 16k;';
  return startNginx(relayPort, buffers);
}

/** HAProxy that cuts what is silent for so long, WebSockets too. */
export function startImpatientProxy(relayPort: number, idleMs: number): Promise<Intermediary> {
  return start('haproxy', ({ port }) => ({
    text: `
defaults
  mode http
  maxconn 200
  timeout connect 5s
  timeout client ${idleMs}ms
  timeout server ${idleMs}ms
  timeout tunnel ${idleMs}ms
  timeout http-request ${idleMs}ms
  timeout http-keep-alive ${idleMs}ms
frontend front
  bind 127.0.0.1:${port}
  default_backend back
backend back
  server relay 127.0.0.1:${relayPort}
`,
    run: file => ['-db', '-q', '-f', file],
  }));
}

/** tinyproxy, which is told where to go: by CONNECT, and for plain requests in absolute form. */
export function startForwardProxy(): Promise<Intermediary> {
  return start('tinyproxy', ({ port }) => ({
    text: `
Port ${port}
Listen 127.0.0.1
Timeout 600
MaxClients 100
Allow 127.0.0.1
DisableViaHeader Yes
LogLevel Error
`,
    run: file => ['-d', '-c', file],
  }));
}

function startNginx(relayPort: number, more: string): Promise<Intermediary> {
  return start('nginx', ({ port, folder }) => {
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map(what => `${what}_temp_path ${join(folder, what)};`)
      .join(' ');
    return {
      // Its workers must be able to write into the folder; only root can become another user.
      text: `
${process.getuid?.() === 0 ? 'user root;' : ''}
worker_processes 1;
events { worker_connections 200; }
http {
  ${temporary}
  access_log off;
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://127.0.0.1:${relayPort};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      ${more}
    }
  }
}
`,
      run: file => [
        '-e',
        'stderr',
        '-p',
        folder,
        '-c',
        file,
        '-g',
        `pid ${join(folder, 'nginx.pid')}; daemon off;`,
      ],
    };
  });
}

async function start(
  program: string,
  configure: (place: { readonly port: number; readonly folder: string }) => {
    readonly text: string;
    readonly run: (file: string) => readonly string[];
  },
): Promise<Intermediary> {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-intermediary-'));
  const port = await freePort();
  const file = join(folder, `${program}.conf`);
  const { text, run } = configure({ port, folder });
  writeFileSync(file, text);
  const child = spawn(program, run(file), {
    env: { ...process.env, PATH },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (part: string) => {
    said += part;
  });
  const ended = once(child, 'exit');
  await until(`${program} listens`, () => {
    if (child.exitCode !== null) throw new Error(`${program} has ended: ${said}`);
    return accepts(port);
  });
  return {
    port,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
