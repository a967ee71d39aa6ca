import type { HttpResponse } from 'uWebSockets.js';
import { endWithoutBody } from './refusal-response.ts';

/** Whether work should be sent here; `reasons` say why not, or what is degraded. */
export interface Readiness {
  readonly ready: boolean;
  readonly reasons: readonly string[];
}

/** Answers `healthz` (the process lives) and `readyz` (send work here); false: neither was asked. */
export function answerHealth(
  name: string,
  response: HttpResponse,
  readiness: () => Readiness,
  isHead = false,
): boolean {
  if (name === 'healthz') {
    writeJson(response, '200 OK', { status: 'alive' }, isHead);
    return true;
  }
  if (name !== 'readyz') return false;
  const { ready, reasons } = readiness();
  const status = ready ? '200 OK' : '503 Service Unavailable';
  writeJson(response, status, { status: ready ? 'ready' : 'not ready', reasons }, isHead);
  return true;
}

export function writeJson(
  response: HttpResponse,
  status: string,
  value: unknown,
  isHead = false,
): void {
  const json = JSON.stringify(value);
  response
    .writeStatus(status)
    .writeHeader('Content-Type', 'application/json')
    .writeHeader('Cache-Control', 'no-store');
  if (isHead) endWithoutBody(response, Buffer.byteLength(json));
  else response.end(json);
}
