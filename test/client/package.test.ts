// `halfway/client` as a program elsewhere has it: compiled, with declarations, under strict settings of its own.
import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ROOT_KEY, startRelay } from '../support/relay.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');
const TSC = join(ROOT, 'node_modules/.bin/tsc');
const COMPILE_MS = 60_000;

const PROGRAM = `
import { text } from 'node:stream/consumers';
import { HybridConnectionClient, HybridConnectionListener, RelayError } from 'halfway/client';
import type { Message, RelayOptions } from 'halfway/client';

const options: RelayOptions = { connectionString: process.argv[2] ?? '', transport: 'websocket' };
const listener = new HybridConnectionListener(options, {
  onConnection: async offer => {
    if (offer.protocols.includes('unwanted')) return offer.reject(403, 'Not that one');
    const connection = await offer.accept();
    for await (const { data } of connection) await connection.send(data);
    return undefined;
  },
  onRequest: request => ({ status: 200, headers: { 'X-A': ['b', 'c'] }, body: request.body }),
});
listener.on('reconnecting', ({ why, delayMs }) => console.error(why.code satisfies string, delayMs));
await listener.open();
const client = new HybridConnectionClient(options);
const connection = await client.connect();
await connection.send('hello');
const message: Message | undefined = await connection.receive();
if (message?.isBinary === false) console.log(message.data.toUpperCase());
await connection.close();
console.log(await text((await client.request({ body: 'a request' })).body));
try {
  await client.connect({ protocols: ['unwanted'] });
} catch (error) {
  if (error instanceof RelayError) console.log(error.code, error.status, error.reason);
}
// @ts-expect-error
client.nothing;
await listener.close();
`;

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'halfway-package-'));
  const installed = join(folder, 'node_modules/halfway');
  mkdirSync(installed, { recursive: true });
  copyFileSync(join(ROOT, 'package.json'), join(installed, 'package.json'));
  symlinkSync(join(ROOT, 'node_modules'), join(installed, 'node_modules'));
  symlinkSync(join(ROOT, 'node_modules/@types'), join(folder, 'node_modules/@types'));
  const build = join(folder, 'build.json');
  writeFileSync(
    build,
    JSON.stringify({
      extends: join(ROOT, 'src/tsconfig.json'),
      compilerOptions: {
        outDir: join(installed, 'dist'),
        rootDir: join(ROOT, 'src'),
        typeRoots: [join(ROOT, 'node_modules/@types')],
      },
      include: [],
      files: [join(ROOT, 'src/client/client.ts')],
    }),
  );
  await run(TSC, ['-p', build]);
}, COMPILE_MS);
afterAll(() => rmSync(folder, { recursive: true }));

test(
  'a program elsewhere is checked against its declarations, and runs',
  async () => {
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
    writeFileSync(join(folder, 'program.ts'), PROGRAM);
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          strict: true,
          module: 'nodenext',
          target: 'es2023',
          lib: ['es2023', 'esnext.disposable'],
          types: ['node'],
          skipLibCheck: false,
        },
        files: ['program.ts'],
      }),
    );
    await run(TSC, ['-p', folder]).catch(({ stdout }: { readonly stdout: string }) => {
      throw new Error(stdout);
    });
    await using relay = await startRelay();
    const connectionString = `Endpoint=sb://127.0.0.1:${relay.port}/;SharedAccessKeyName=root;SharedAccessKey=${ROOT_KEY};EntityPath=hyco`;
    const { stdout } = await run(process.execPath, [join(folder, 'program.js'), connectionString]);
    expect(stdout.split('\n')).toEqual(['HELLO', 'a request', 'Rejected 403 Not that one', '']);
  },
  COMPILE_MS,
);
