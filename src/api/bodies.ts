import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { Problem } from '../dispatch/problem.ts';
import { FrameError } from './api-error.ts';
import type { ApiRequest } from './api-request.ts';
import { parseJsonBody } from './json-body.ts';
import type { BodyKind } from './operation.ts';

/** What requests hardly ever need more of. */
export const BODY_BYTES_MAX = 64 * 1024;
/** Bytes by which gzip may make a body longer that does not compress. */
const GZIP_OVERHEAD_BYTES_MAX = 1_024;

const unzip = promisify(gunzip);

/** Whether the head announces one. */
export function hasBody({ headers }: ApiRequest): boolean {
  const length = headers.get('content-length');
  return headers.has('transfer-encoding') || (length !== undefined && length !== '0');
}

/** Undefined for an empty body, whose type does not matter then. */
export async function jsonOf(request: ApiRequest, bytesMax: number): Promise<unknown> {
  if (!hasBody(request)) return undefined;
  requireType(request, 'application/json');
  requireEncoding(request, []);
  const bytes = await request.readBody(bytesMax);
  return bytes.length === 0 ? undefined : parseJsonBody(bytes);
}

/** Unzips what says that it is gzip, never to more than `bytesMax`. */
export async function bytesOf(
  request: ApiRequest,
  bytesMax: number,
  kind: Exclude<BodyKind, 'json'>,
): Promise<Uint8Array> {
  if (!hasBody(request)) return new Uint8Array();
  if (kind === 'any') return request.readBody(bytesMax);
  requireType(request, 'application/octet-stream');
  const encoding = requireEncoding(request, ['gzip']);
  const bytes = await request.readBody(bytesMax + GZIP_OVERHEAD_BYTES_MAX);
  if (encoding === 'identity') {
    if (bytes.length > bytesMax) throw new FrameError('ContentTooLarge');
    return bytes;
  }
  try {
    return await unzip(bytes, { maxOutputLength: bytesMax });
  } catch (cause) {
    const errors = [{ path: '', message: `must be gzip of at most ${bytesMax} bytes` }];
    throw new Problem('RequestMalformed', undefined, { errors, cause });
  }
}

/** Parameters are left alone, but a character set must be UTF-8. */
function requireType({ headers }: ApiRequest, wanted: string): void {
  const [type = '', ...parameters] = (headers.get('content-type') ?? '')
    .split(';')
    .map(part => part.trim().toLowerCase());
  const charset = parameters.find(parameter => parameter.startsWith('charset='));
  const isUtf8 = charset === undefined || /^charset="?utf-8"?$/.test(charset);
  if (type !== wanted || !isUtf8) throw new FrameError('UnsupportedMediaType', `send ${wanted}`);
}

function requireEncoding({ headers }: ApiRequest, allowed: readonly string[]): string {
  const encoding = (headers.get('content-encoding') ?? 'identity').trim().toLowerCase();
  if (encoding !== 'identity' && !allowed.includes(encoding)) {
    const sent = allowed.length === 0 ? 'without' : `with ${allowed.join(', ')} or without`;
    throw new FrameError('UnsupportedMediaType', `send it ${sent} Content-Encoding`);
  }
  return encoding;
}
