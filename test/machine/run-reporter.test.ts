import { generateKeyPairSync } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { pointOf } from '../../src/crypto/es256.ts';
import { MachineAccess } from '../../src/machine/machine-access.ts';
import { ReportError } from '../../src/machine/ports.ts';
import { runReporter } from '../../src/machine/run-reporter.ts';
import { fakeControlPlane, problem, type Answering } from '../support/fake-control-plane.ts';

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const IN_AN_HOUR = new Date(Date.now() + 3_600_000).toISOString();
const TOKENS = {
  accessToken: 'hwm_1',
  accessTokenExpiresAt: IN_AN_HOUR,
  listenToken: 'l',
  listenTokenExpiresAt: IN_AN_HOUR,
};
const ABOUT = { runId: 'r 1', attempt: 2, fence: 7 };
const RENEWED = { v: 1, type: 'renewed', leaseUntil: IN_AN_HOUR, cancel: null };

async function bench(answer: Answering) {
  const plane = await fakeControlPlane(request =>
    request.path.endsWith('/token') ? { body: TOKENS } : answer(request),
  );
  const access = new MachineAccess({
    client: plane.client,
    clock: systemClock,
    identity: { kid: 'k', privateKey, point: pointOf(privateKey) },
    environment: 'dev',
    machineId: 'm1',
  });
  const last = () => plane.asked.at(-1);
  return { reporter: runReporter(access), last, [Symbol.asyncDispose]: plane[Symbol.asyncDispose] };
}

describe('runReporter', () => {
  test('start() and renew() ask for the attempt, and answer what is wanted', async () => {
    await using it = await bench(() => ({ body: RENEWED }));
    expect(await it.reporter.start({ ...ABOUT, instance: 'i', agentVersion: '1.0.0' })).toEqual(
      RENEWED,
    );
    expect(it.last()).toMatchObject({
      method: 'PUT',
      path: '/$api/v1/environments/dev/agent/runs/r%201/attempts/2/start',
      json: { fence: 7, instance: 'i', agentVersion: '1.0.0' },
    });
    await it.reporter.renew(ABOUT, true);
    expect(it.last()?.json).toEqual({ fence: 7, isLaunched: true });
    expect(it.last()?.path).toMatch(/\/attempts\/2\/renew$/);
  });

  test('log() compresses what is worth it, and names offset and digest of the plain bytes', async () => {
    const told = { isTaken: true, nextOffset: 4096, isTruncated: false };
    await using it = await bench(() => ({ body: told }));
    const bytes = Buffer.alloc(4096, 'line\n');
    expect(await it.reporter.log({ ...ABOUT, offset: 0, sha256: 'ab', bytes })).toEqual(told);
    const sent = it.last();
    expect(sent?.path).toMatch(/\/logs\?offset=0&fence=7&sha256=ab$/);
    expect(sent?.headers['content-encoding']).toBe('gzip');
    expect(gunzipSync(sent?.bytes ?? Buffer.alloc(0))).toEqual(bytes);
    await it.reporter.log({ ...ABOUT, offset: 4096, sha256: 'ab', bytes: Buffer.from('short') });
    expect(it.last()?.headers['content-encoding']).toBeUndefined();
    expect(it.last()?.bytes.toString()).toBe('short');
  });

  test('result(), progress() and startInterrupted() take an empty answer', async () => {
    await using it = await bench(() => ({ status: 204 }));
    await it.reporter.startInterrupted(ABOUT);
    const result = {
      v: 1,
      type: 'result',
      runId: 'r1',
      attempt: 1,
      fence: 1,
      status: 'Succeeded',
    } as const;
    await it.reporter.result(result);
    expect(it.last()).toMatchObject({ method: 'PUT', json: result });
    await it.reporter.progress({
      v: 1,
      type: 'progress',
      runId: 'r1',
      attempt: 1,
      fence: 1,
      step: 's',
    });
    expect(it.last()).toMatchObject({ method: 'POST' });
  });

  test.each([
    [409, 'LeaseLost', true],
    [400, 'RequestMalformed', true],
    [503, 'StoreUnavailable', false],
    [409, 'VersionConflict', false],
    [401, 'TokenInvalid', false],
  ])('%i %s: isFinal is %s', async (status, code, isFinal) => {
    await using it = await bench(() => problem(status, code));
    const why: unknown = await it.reporter.renew(ABOUT, true).catch((error: unknown) => error);
    expect(why).toBeInstanceOf(ReportError);
    expect(why).toMatchObject({ code, isFinal });
  });

  test('an answer of a proxy, or of another form, is Unreachable', async () => {
    await using it = await bench(() => ({ status: 502, body: 'no' }));
    const code = 'Unreachable';
    await expect(it.reporter.renew(ABOUT, true)).rejects.toMatchObject({ code, isFinal: false });
    await using other = await bench(() => ({ body: {} }));
    await expect(other.reporter.renew(ABOUT, true)).rejects.toMatchObject({ code, isFinal: false });
  });
});
