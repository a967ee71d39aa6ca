import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { Routes } from '../../client/routes.ts';
import { JOB_ERRORS } from '../../jobs/error-codes.ts';
import type { Job } from '../../jobs/messages.ts';
import { failed, type Outcome } from './messages.ts';

const ASSET_BYTES_MAX = 512 * 1024 * 1024;
const REDIRECTS_MAX = 5;
const EXECUTABLE = 0o700;

type Asset = NonNullable<Job['asset']>;

/**
 * Fetches a job's asset into the run's folder, through the proxy that the account's environment names,
 * and checks it against its digest before anybody may use it. Aborted: the outcome says so. Does not reject.
 */
export async function fetchAsset(
  asset: Asset,
  folder: string,
  signal: AbortSignal,
  routes = new Routes(),
): Promise<{ readonly path: string } | { readonly outcome: Outcome }> {
  const path = join(folder, nameOf(asset.url));
  try {
    const answer = await get(routes, new URL(asset.url), signal);
    const hash = createHash('sha256');
    let bytes = 0;
    await pipeline(
      answer,
      async function* measured(chunks: AsyncIterable<Buffer>) {
        for await (const chunk of chunks) {
          bytes += chunk.length;
          if (bytes > ASSET_BYTES_MAX) throw new Error(`it has more than ${ASSET_BYTES_MAX} bytes`);
          hash.update(chunk);
          yield chunk;
        }
      },
      createWriteStream(path, { mode: EXECUTABLE, flags: 'wx' }),
      { signal },
    );
    const digest = hash.digest('hex');
    if (digest === asset.sha256.toLowerCase()) return { path };
    const { text } = JOB_ERRORS.TotalChunksMismatch;
    const message = `${text}: the asset of the job has ${digest}`;
    return { outcome: failed('TotalChunksMismatch', message) };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return {
      outcome: failed('AgentHasNotStarted', `The asset of the job cannot be fetched: ${why}`),
    };
  }
}

async function get(routes: Routes, first: URL, signal: AbortSignal): Promise<IncomingMessage> {
  let url = first;
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects += 1) {
    const answer = await getOnce(routes, url, signal);
    const { statusCode = 0, headers } = answer;
    if (statusCode === 200) return answer;
    answer.destroy();
    const isMoved = [301, 302, 303, 307, 308].includes(statusCode);
    if (!isMoved || headers.location === undefined) throw new Error(`the answer is ${statusCode}`);
    url = new URL(headers.location, url);
  }
  throw new Error(`it was moved more than ${REDIRECTS_MAX} times`);
}

function getOnce(routes: Routes, url: URL, signal: AbortSignal): Promise<IncomingMessage> {
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    return Promise.reject(new Error(`"${url.protocol}" is not http: or https:`));
  }
  return new Promise((resolve, reject) => {
    const { request, failure, proxyRefusal } = routes.open(url, { doing: 'fetch the asset' });
    const abort = (): void => void request.destroy(new Error('the run was ended'));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    request.once('close', () => signal.removeEventListener('abort', abort));
    request.once('response', answer => {
      const refusal = proxyRefusal(answer);
      if (refusal === undefined) resolve(answer);
      else reject(refusal);
    });
    request.on('error', error => reject(signal.aborted ? error : failure(error)));
    request.end();
  });
}

/** The last part of the path where that is a plain name. */
function nameOf(url: string): string {
  const name = basename(new URL(url).pathname);
  return /^[\w-][\w.-]{0,100}$/.test(name) ? `asset-${name}` : 'asset';
}
