import { createReadStream } from 'node:fs';
import * as v from 'valibot';
import { systemClock } from '../base/clock.ts';
import { Executor } from './executor/executor.ts';
import { EXECUTOR_FILES, handoverSchema } from './executor/messages.ts';

// The program of an executor. Started by the service with the files of `EXECUTOR_FILES`, never by hand.

process.umask(0o077);
// A terminal's, or that of whoever ends the service: the run is ended over its socket.
for (const signal of ['SIGHUP', 'SIGINT'] as const) process.on(signal, () => undefined);
// The service that read these may have ended.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);

const chunks: Buffer[] = [];
for await (const chunk of createReadStream('', { fd: EXECUTOR_FILES.handover })) {
  chunks.push(Buffer.from(chunk));
}
const handover = v.parse(handoverSchema, JSON.parse(Buffer.concat(chunks).toString('utf8')));
await new Executor(handover, systemClock).run();
process.exit(0);
