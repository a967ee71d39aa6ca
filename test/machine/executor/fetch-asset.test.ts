import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { expect, test } from 'vitest';
import { Routes } from '../../../src/client/routes.ts';
import { fetchAsset } from '../../../src/machine/executor/fetch-asset.ts';
import { someFolder } from '../../support/some-folder.ts';

const CONTENT = Buffer.from('#!/bin/sh\necho asset\n');
const sha256 = createHash('sha256').update(CONTENT).digest('hex');
const never = new AbortController().signal;

async function server(answer: RequestListener) {
  const it = createServer(answer);
  it.listen(0, '127.0.0.1');
  await once(it, 'listening');
  const address = it.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const url = `http://127.0.0.1:${address.port}`;
  return { url, [Symbol.dispose]: () => it.close().closeAllConnections() };
}

test('fetchAsset() follows where it was moved, checks it, and makes it a program', async () => {
  using folder = someFolder();
  using files = await server(({ url }, response) => {
    if (url === '/tool.sh') response.end(CONTENT);
    else response.writeHead(302, { location: '/tool.sh' }).end();
  });
  const asset = { url: `${files.url}/dir/../moved%2f.sh`, sha256: sha256.toUpperCase() };
  const fetched = await fetchAsset(asset, folder.path, never);
  const path = 'path' in fetched ? fetched.path : '';
  expect(path.startsWith(`${folder.path}/asset`)).toBe(true);
  expect(readFileSync(path)).toEqual(CONTENT);
  expect(statSync(path).mode & 0o777).toBe(0o700);
});

test.each<[string, RequestListener, object]>([
  [
    'other bytes',
    (_request, response) => void response.end('else'),
    { code: 'TotalChunksMismatch' },
  ],
  [
    'no answer of that name',
    (_request, response) => void response.writeHead(404).end(),
    {
      code: 'AgentHasNotStarted',
      message: 'The asset of the job cannot be fetched: the answer is 404',
    },
  ],
  [
    'no end of moving',
    (_request, response) => void response.writeHead(302, { location: '/again' }).end(),
    { message: 'The asset of the job cannot be fetched: it was moved more than 5 times' },
  ],
  [
    'a move to a file of the computer',
    (_request, response) => void response.writeHead(302, { location: 'file:///etc/passwd' }).end(),
    { message: 'The asset of the job cannot be fetched: "file:" is not http: or https:' },
  ],
  [
    'an answer that breaks off',
    (_request, response) => {
      response.writeHead(200, { 'content-length': '100' }).write('x');
      setImmediate(() => response.destroy());
    },
    { code: 'AgentHasNotStarted' },
  ],
])('fetchAsset() fails the run for %s', async (_name, answer, error) => {
  using folder = someFolder();
  using files = await server(answer);
  const fetched = await fetchAsset({ url: `${files.url}/x`, sha256 }, folder.path, never);
  expect(fetched).toMatchObject({ outcome: { status: 'Failed', error } });
});

test('fetchAsset() ends when the run is to end', async () => {
  using folder = someFolder();
  const end = new AbortController();
  using files = await server((_request, response) => {
    response.writeHead(200).write('x');
    end.abort();
  });
  const fetched = await fetchAsset({ url: `${files.url}/x`, sha256 }, folder.path, end.signal);
  expect(fetched).toMatchObject({ outcome: { status: 'Failed' } });
});

test('fetchAsset() goes through the proxy that the environment names', async () => {
  using folder = someFolder();
  const asked: string[] = [];
  using proxy = await server(({ url = '' }, response) => {
    asked.push(url);
    response.end(CONTENT);
  });
  const before = process.env['http_proxy'];
  process.env['http_proxy'] = proxy.url;
  try {
    const asset = { url: 'http://assets.example/tool', sha256 };
    expect(await fetchAsset(asset, folder.path, never, new Routes())).toHaveProperty('path');
  } finally {
    if (before === undefined) delete process.env['http_proxy'];
    else process.env['http_proxy'] = before;
  }
  expect(asked).toEqual(['http://assets.example/tool']);
});
