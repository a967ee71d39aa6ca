import { describe, expect, test } from 'vitest';
import type { Answer } from '../../src/client/answer.ts';
import { RelayRequests, type MessageTakers } from '../../src/machine/relay-requests.ts';
import { SignatureCheck } from '../../src/machine/signed-message.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { dispatchKey, offerOf, relayedRequest } from '../support/signed-messages.ts';

const PATH = 'dev/m/m1';
const key = dispatchKey();

function bench(takers: Partial<MessageTakers> = {}, nowMs = (): number => Date.now()) {
  const logged: object[] = [];
  const seen: string[] = [];
  const requests = new RelayRequests({
    relayPath: PATH,
    check: new SignatureCheck({ pinned: () => [key.pinned], audience: PATH, serverNowMs: nowMs }),
    log: { ...silentLogger, warn: fields => void logged.push(fields) },
    takers: {
      offer: ({ runId, attempt, fence }) => {
        seen.push(`offer ${runId}`);
        return Promise.resolve({ v: 1, type: 'accept', runId, attempt, fence });
      },
      cancel: ({ runId, mode }) => void seen.push(`cancel ${runId} ${mode}`),
      command: ({ name }) => {
        seen.push(name);
        return Promise.resolve(
          name === 'drain' ? { status: 200, body: { done: true } } : undefined,
        );
      },
      isOver: moment => Date.parse(moment) < nowMs(),
      ...takers,
    },
  });
  return { requests, logged, seen };
}

function signed(target: string, message: object, audience = PATH, iat?: number) {
  const body = JSON.stringify(message);
  return relayedRequest({
    target: `/${PATH}/${target}`,
    body,
    signature: key.sign(body, audience, iat),
  });
}

function bodyOf({ body }: Answer): unknown {
  return typeof body === 'string' ? JSON.parse(body) : undefined;
}

const COMMAND = {
  v: 1,
  type: 'command',
  id: 'k1',
  name: 'drain',
  args: {},
  notAfter: '2030-01-01T00:00:00Z',
};

describe('offers', () => {
  test('one that is signed for this machine is put before the door', async () => {
    const { requests, seen } = bench();
    const answer = await requests.answer(signed('runs/r1', offerOf()));
    expect(answer.status).toBe(200);
    expect(bodyOf(answer)).toEqual({ v: 1, type: 'accept', runId: 'r1', attempt: 1, fence: 1 });
    expect(seen).toEqual(['offer r1']);
  });

  test('a refusal of the door is a 409', async () => {
    const { requests } = bench({
      offer: ({ runId, attempt, fence }) =>
        Promise.resolve({
          v: 1,
          type: 'refuse',
          runId,
          attempt,
          fence,
          code: 'UIFlowAlreadyRunning',
        }),
    });
    const answer = await requests.answer(signed('runs/r1', offerOf()));
    expect(answer.status).toBe(409);
    expect(bodyOf(answer)).toMatchObject({ type: 'refuse', code: 'UIFlowAlreadyRunning' });
  });

  const body = JSON.stringify(offerOf());
  const old = Math.floor(Date.now() / 1_000) - 3_600;
  test.each([
    ['no signature', undefined],
    ['bad signature', dispatchKey().sign(body, PATH)],
    ['bad signature', dispatchKey('x'.repeat(43)).sign(body, PATH)],
    ['bad signature', key.sign(`${body} `, PATH)],
    ['bad signature', 'not..asignature'],
    ['wrong audience', key.sign(body, 'dev/m/m2')],
    ['wrong audience', key.sign(body, 'prod/m/m1')],
    ['too old', key.sign(body, PATH, old)],
    ['too old', key.sign(body, PATH, old + 7_200)],
  ])(
    '%s: refused, logged as a security event, and not put before the door',
    async (fault, signature) => {
      const { requests, logged, seen } = bench();
      const target = `/${PATH}/runs/r1`;
      const answer = await requests.answer(
        relayedRequest({ target, body, ...(signature === undefined ? {} : { signature }) }),
      );
      expect(answer.status).toBe(409);
      expect(bodyOf(answer)).toMatchObject({
        type: 'refuse',
        runId: 'r1',
        code: 'OfferSignatureInvalid',
      });
      expect(logged).toEqual([
        expect.objectContaining({ event: 'security', fault, from: '192.0.2.1' }),
      ]);
      expect(seen).toEqual([]);
    },
  );

  test('is looked at by the clock of the control plane, where this one is wrong', async () => {
    const { requests, seen } = bench({}, () => Date.now() - 3_600_000);
    const iat = Math.floor(Date.now() / 1_000) - 3_600;
    await requests.answer(signed('runs/r1', offerOf(), PATH, iat));
    expect(seen).toEqual(['offer r1']);
  });

  test('one of another run than its path says, or of another form, is not taken', async () => {
    const { requests, seen } = bench();
    expect((await requests.answer(signed('runs/r2', offerOf()))).status).toBe(400);
    expect((await requests.answer(signed('runs/r1', { v: 1, type: 'offer' }))).status).toBe(400);
    expect(seen).toEqual([]);
  });

  test('one that is too long is not read to its end', async () => {
    const { requests } = bench();
    const long = Buffer.alloc(6 * 1024 * 1024, 0x20);
    const answer = await requests.answer(
      relayedRequest({ target: `/${PATH}/runs/r1`, body: long }),
    );
    expect(answer.status).toBe(413);
  });
});

describe('commands', () => {
  test('a cancel reaches the door', async () => {
    const { requests, seen } = bench();
    const cancel = {
      v: 1,
      type: 'cancel',
      runId: 'r1',
      mode: 'stop',
      graceSeconds: 10,
      by: 'user:ann',
    };
    expect((await requests.answer(signed('commands/r1-1-stop', cancel))).status).toBe(202);
    expect(seen).toEqual(['cancel r1 stop']);
  });

  test('the same command twice is done once, and answered the same', async () => {
    const { requests, seen } = bench();
    const first = await requests.answer(signed('commands/k1', COMMAND));
    const again = await requests.answer(signed('commands/k1', COMMAND));
    expect(first.status).toBe(200);
    expect(again).toEqual(first);
    expect(seen).toEqual(['drain']);
  });

  test('what this version does not know is unsupported', async () => {
    const { requests } = bench();
    const later = await requests.answer(signed('commands/k2', { ...COMMAND, name: 'reseal' }));
    const strange = await requests.answer(signed('commands/k3', { ...COMMAND, name: 'dance' }));
    expect([later.status, strange.status]).toEqual([501, 501]);
    expect(bodyOf(later)).toMatchObject({ type: 'unsupported', code: 'JobSchemaTooNew' });
  });

  test('one whose time is over is not done', async () => {
    const { requests, seen } = bench();
    const answer = await requests.answer(
      signed('commands/k1', { ...COMMAND, notAfter: '2020-01-01T00:00:00Z' }),
    );
    expect([answer.status, seen]).toEqual([410, []]);
  });

  test('an unsigned one is refused with 401', async () => {
    const { requests, seen } = bench();
    const body = JSON.stringify(COMMAND);
    const answer = await requests.answer(relayedRequest({ target: `/${PATH}/commands/k1`, body }));
    expect([answer.status, seen]).toEqual([401, []]);
  });
});

test('echo sends back what came, without any signature', async () => {
  const { requests } = bench();
  const empty = await requests.answer(
    relayedRequest({ target: `/${PATH}/echo?x=1`, method: 'GET' }),
  );
  expect(bodyOf(empty)).toMatchObject({ type: 'echo', method: 'GET' });
  const request = relayedRequest({ target: `/${PATH}/echo`, body: 'hello' });
  expect((await requests.answer(request)).body).toBe(request.body);
});

test('other paths are nothing', async () => {
  const { requests } = bench();
  for (const target of ['/dev/m/m2/runs/r1', `/${PATH}`, `/${PATH}/runs`, `/${PATH}/runs/a/b`]) {
    expect((await requests.answer(relayedRequest({ target }))).status).toBe(404);
  }
});
