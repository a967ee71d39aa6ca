import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseConnectionString } from '../../src/protocol/connection-string.ts';
import { MANAGEMENT_BODY_BYTES_MAX } from '../../src/transports/management-routes.ts';
import { at, callApi, createHybridConnection } from '../support/management.ts';
import { NAMESPACE, startRelay, type TestRelay } from '../support/relay.ts';

let relay: TestRelay;
beforeAll(async () => {
  relay = await startRelay();
});
afterAll(async () => {
  await relay[Symbol.asyncDispose]();
});

const call = (method: string, path: string, options?: Parameters<typeof callApi>[3]) =>
  callApi(relay, method, path, options);

function ifMatch(etag: string | undefined): { readonly headers: Record<string, string> } {
  return { headers: { 'If-Match': etag ?? '' } };
}

function namesIn(body: unknown): unknown[] {
  const value = at(body, 'value');
  return Array.isArray(value) ? value.map(one => at(one, 'name')) : [];
}

describe('namespaces', () => {
  test('are listed, and found in whatever case', async () => {
    const list = await (await fetch(`${relay.adminUrl}/api/namespaces`)).json();
    expect(namesIn(list)).toEqual(['tests']);
    const one = await (await fetch(`${relay.adminUrl}/api/Namespaces/TESTS?api-version=1`)).json();
    expect(one).toMatchObject({ id: '/api/namespaces/tests', type: 'Microsoft.Relay/Namespaces' });
    expect(one).toMatchObject({ properties: { changesAreKept: false } });
  });

  test('that are not there are 404, and the answer names those that are', async () => {
    const response = await fetch(`${relay.adminUrl}/api/namespaces/other/hybridConnections`);
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({
      error: { code: 'ResourceNotFound', message: expect.stringContaining('tests') },
    });
  });
});

describe('a hybrid connection', () => {
  test('is created with 201, read, changed with 200, and deleted', async () => {
    const path = '/hybridConnections/Life';
    const created = await call('PUT', path, { body: { properties: { userMetadata: 'ä' } } });
    expect(created.status).toBe(201);
    expect(created.body).toMatchObject({
      id: '/api/namespaces/tests/hybridConnections/Life',
      name: 'Life',
      type: 'Microsoft.Relay/Namespaces/HybridConnections',
      properties: {
        requiresClientAuthorization: true,
        userMetadata: 'ä',
        listenerCount: 0,
        definedBy: 'api',
        createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      },
    });
    const read = await call('GET', '/hybridConnections/life');
    expect(read).toEqual({ ...created, status: 200 });
    const changed = await call('PUT', path, { body: read.body });
    expect(changed.status).toBe(200);
    expect(changed.etag).not.toBe(created.etag);
    expect(namesIn((await call('GET', '/hybridConnections')).body)).toContain('Life');
    expect((await call('DELETE', path)).status).toBe(200);
    expect((await call('DELETE', path)).status).toBe(204);
    expect((await call('GET', path)).status).toBe(404);
  });

  test('that is not there is 204, without a length, and the connection goes on', async () => {
    const url = `${relay.adminUrl}/api/namespaces/tests/hybridConnections/nobody`;
    const response = await fetch(url, { method: 'DELETE' });
    expect([response.status, response.headers.get('content-length')]).toEqual([204, null]);
    expect(response.headers.get('connection')).not.toBe('close');
  });

  test('is created by an empty body, with what is usual', async () => {
    const { status, body } = await call('PUT', '/hybridConnections/bare');
    expect(status).toBe(201);
    expect(at(body, 'properties', 'requiresClientAuthorization')).toBe(true);
  });

  test.each(['/hybridConnections/a%2Fb%2Fc', '/hybridConnections/a~b~c'])(
    'may have slashes in its name: %s',
    async path => {
      await call('PUT', path);
      const { body } = await call('GET', path);
      expect(body).toMatchObject({
        id: '/api/namespaces/tests/hybridConnections/a%2Fb%2Fc',
        name: 'a/b/c',
      });
      expect((await call('DELETE', path)).status).toBe(200);
    },
  );

  test('named like a part of the API is told apart from it', async () => {
    const name = 'x/authorizationRules/y/listKeys';
    await createHybridConnection(relay, name);
    const { body } = await call('GET', `/hybridConnections/${encodeURIComponent(name)}`);
    expect(body).toMatchObject({ name });
    const rules = `/hybridConnections/${encodeURIComponent(name)}/authorizationRules`;
    expect((await call('GET', rules)).body).toEqual({ value: [] });
  });

  test('with a slash that is not escaped is 404, and the answer says how to write it', async () => {
    const { status, body } = await call('GET', '/hybridConnections/a/b');
    expect(status).toBe(404);
    expect(at(body, 'error', 'message')).toContain('%2F');
  });

  test('is created only if it is not there with If-None-Match: *', async () => {
    const path = '/hybridConnections/once';
    const headers = { 'If-None-Match': '*' };
    expect((await call('PUT', path, { headers })).status).toBe(201);
    const again = await call('PUT', path, { headers });
    expect(again).toMatchObject({ status: 412, body: { error: { code: 'PreconditionFailed' } } });
  });

  test('is changed and deleted only as it was read with If-Match', async () => {
    const path = '/hybridConnections/matched';
    expect((await call('PUT', path, ifMatch('*'))).status).toBe(412);
    const first = await call('PUT', path);
    const second = await call('PUT', path, ifMatch(first.etag));
    expect(second.status).toBe(200);
    expect((await call('PUT', path, ifMatch(first.etag))).status).toBe(412);
    expect((await call('DELETE', path, ifMatch(first.etag))).status).toBe(412);
    expect((await call('DELETE', path, ifMatch(`"x", ${second.etag}`))).status).toBe(200);
  });

  test('that has not changed is not sent again', async () => {
    const { etag } = await call('PUT', '/hybridConnections/cached');
    const headers = { 'If-None-Match': etag ?? '' };
    const { status, body } = await call('GET', '/hybridConnections/cached', { headers });
    expect({ status, body }).toEqual({ status: 304, body: undefined });
  });

  test('with faults is refused with all of them at once', async () => {
    const { status, body } = await call('PUT', '/hybridConnections/-bad-', {
      body: {
        colour: 'red',
        properties: { requiresClientAuthorization: 'yes', userMetadata: 'x'.repeat(1_025) },
      },
    });
    expect(status).toBe(400);
    expect(at(body, 'error', 'code')).toBe('BadRequest');
    const details = at(body, 'error', 'details');
    expect(Array.isArray(details) ? details.map(one => at(one, 'target')) : []).toEqual([
      'name',
      'colour',
      'properties.requiresClientAuthorization',
      'properties.userMetadata',
    ]);
  });

  test.each([
    ['{', 'must be JSON'],
    ['[]', 'must be a JSON object'],
    ['{"properties":7}', 'must be an object'],
  ])('cannot be made of %s', async (text, fault) => {
    const { status, body } = await call('PUT', '/hybridConnections/ok', { body: text });
    expect(status).toBe(400);
    expect(at(body, 'error', 'message')).toContain(fault);
  });

  test('of the config file is neither changed nor deleted', async () => {
    for (const method of ['PUT', 'DELETE']) {
      const { status, body } = await call(method, '/hybridConnections/HYCO');
      expect(status).toBe(409);
      expect(body).toMatchObject({
        error: {
          code: 'DefinedInConfigFile',
          message: expect.stringContaining('the config file of the server defines it'),
        },
      });
    }
    const { body } = await call('GET', '/hybridConnections/hyco');
    expect(body).toMatchObject({ properties: { definedBy: 'config-file' } });
  });

  test('beyond the limit is refused with 403, those of the config file counted', async () => {
    const hybridConnectionsMax = NAMESPACE.hybridConnections.length + 1;
    await using small = await startRelay({ hybridConnectionsMax });
    expect((await callApi(small, 'PUT', '/hybridConnections/one')).status).toBe(201);
    expect(await callApi(small, 'PUT', '/hybridConnections/two')).toMatchObject({
      status: 403,
      body: { error: { code: 'QuotaExceeded', message: expect.stringContaining('5') } },
    });
    expect((await callApi(small, 'PUT', '/hybridConnections/one')).status).toBe(200);
    await callApi(small, 'DELETE', '/hybridConnections/one');
    expect((await callApi(small, 'PUT', '/hybridConnections/two')).status).toBe(201);
  });
});

const LISTEN = { properties: { rights: ['Listen'] } };

describe('an authorization rule', () => {
  test.each([
    ['of a namespace', '', ''],
    ['of a hybrid connection', '/hybridConnections/ruled%2Fone', 'ruled/one'],
  ])('%s is made with keys of its own, which only listKeys shows', async (_, level, entity) => {
    if (entity !== '') await createHybridConnection(relay, entity);
    const path = `${level}/authorizationRules/Reader`;
    const created = await call('PUT', path, { body: LISTEN });
    expect(created).toMatchObject({ status: 201, etag: expect.any(String) });
    expect(created.body).toMatchObject({ name: 'Reader', properties: { rights: ['Listen'] } });
    expect(JSON.stringify(created.body)).not.toMatch(/Key"/);
    expect((await call('GET', path)).body).toEqual(created.body);
    expect(namesIn((await call('GET', `${level}/authorizationRules`)).body)).toContain('Reader');

    const { status, body } = await call('POST', `${level}/authorizationRules/reader/listKeys`);
    expect(status).toBe(200);
    const key = expect.stringMatching(/^[A-Za-z0-9+/]{43}=$/);
    expect(body).toMatchObject({ keyName: 'Reader', primaryKey: key, secondaryKey: key });
    expect(at(body, 'primaryKey')).not.toBe(at(body, 'secondaryKey'));
    const parsed = parseConnectionString(String(at(body, 'secondaryConnectionString')));
    expect(parsed).toEqual({
      ok: true,
      value: {
        endpoint: { scheme: 'sb', host: '127.0.0.1', port: relay.port },
        sharedAccessKeyName: 'Reader',
        sharedAccessKey: at(body, 'secondaryKey'),
        ...(entity === '' ? {} : { entityPath: entity }),
      },
    });

    const changed = await call('PUT', path, { body: { properties: { rights: ['Send'] } } });
    expect(changed).toMatchObject({ status: 200, body: { properties: { rights: ['Send'] } } });
    expect((await call('POST', `${path}/listKeys`)).body).toEqual(body);
    expect((await call('DELETE', path)).status).toBe(200);
    expect((await call('DELETE', path)).status).toBe(204);
    expect((await call('POST', `${path}/listKeys`)).status).toBe(404);
  });

  test('may bring its keys along', async () => {
    const keys = { primaryKey: 'first-key', secondaryKey: 'second-key' };
    const path = '/authorizationRules/own';
    await call('PUT', path, { body: { properties: { rights: ['Send'], ...keys } } });
    expect((await call('POST', `${path}/listKeys`)).body).toMatchObject(keys);
  });

  test('with faults is refused with all of them, and shows no key', async () => {
    const { status, body } = await call('PUT', '/authorizationRules/_x', {
      body: { properties: { rights: ['Manage', 'Walk'], primaryKey: 'se cret', secondaryKey: 7 } },
    });
    expect(status).toBe(400);
    const details = at(body, 'error', 'details');
    expect(Array.isArray(details) ? details.map(one => at(one, 'target')) : []).toEqual([
      'name',
      'properties.rights[1]',
      'properties.rights',
      'properties.primaryKey',
      'properties.secondaryKey',
    ]);
    expect(JSON.stringify(body)).not.toContain('se cret');
  });

  test('is the thirteenth of its level at most with 403, those of the config file counted', async () => {
    await using fresh = await startRelay();
    const room = 12 - NAMESPACE.authorizationRules.length;
    for (let i = 0; i < room; i += 1) {
      const made = await callApi(fresh, 'PUT', `/authorizationRules/r${i}`, { body: LISTEN });
      expect(made.status).toBe(201);
    }
    const one = await callApi(fresh, 'PUT', '/authorizationRules/more', { body: LISTEN });
    expect(one).toMatchObject({ status: 403, body: { error: { code: 'QuotaExceeded' } } });
  });

  test('of the config file keeps its rights and keys, which listKeys shows', async () => {
    const path = '/authorizationRules/ROOT';
    expect((await call('PUT', path, { body: LISTEN })).status).toBe(409);
    expect((await call('DELETE', path)).status).toBe(409);
    const renew = { body: { keyType: 'PrimaryKey' } };
    expect((await call('POST', `${path}/regenerateKeys`, renew)).status).toBe(409);
    const { primaryKey } = NAMESPACE.authorizationRules[0] ?? {};
    expect((await call('POST', `${path}/listKeys`)).body).toMatchObject({ primaryKey });
  });

  test('is not added to a hybrid connection of the config file', async () => {
    const path = '/hybridConnections/hyco/authorizationRules/mine';
    expect(await call('PUT', path, { body: LISTEN })).toMatchObject({
      status: 409,
      body: { error: { code: 'DefinedInConfigFile' } },
    });
  });

  test('of a hybrid connection that is not there is 404', async () => {
    const path = '/hybridConnections/nowhere/authorizationRules/mine';
    expect((await call('PUT', path, { body: LISTEN })).status).toBe(404);
    expect((await call('GET', path)).status).toBe(404);
  });

  test('goes with its hybrid connection, and does not come back with another of that name', async () => {
    await createHybridConnection(relay, 'gone');
    await call('PUT', '/hybridConnections/gone/authorizationRules/mine', { body: LISTEN });
    await call('DELETE', '/hybridConnections/gone');
    await createHybridConnection(relay, 'gone');
    const { body } = await call('GET', '/hybridConnections/gone/authorizationRules');
    expect(body).toEqual({ value: [] });
  });

  test('changed by many at once loses none of the changes', async () => {
    await createHybridConnection(relay, 'busy');
    const answers = await Promise.all(
      [1, 2, 3, 4].map(i =>
        call('PUT', `/hybridConnections/busy/authorizationRules/r${i}`, { body: LISTEN }),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 201]);
    const { body } = await call('GET', '/hybridConnections/busy/authorizationRules');
    expect(namesIn(body)).toHaveLength(4);
  });

  test('has its key replaced by a random or a given one', async () => {
    const path = '/authorizationRules/renewed';
    await call('PUT', path, { body: LISTEN });
    const before = (await call('POST', `${path}/listKeys`)).body;
    const one = await call('POST', `${path}/regenerateKeys`, { body: { keyType: 'PrimaryKey' } });
    expect(at(one.body, 'primaryKey')).not.toBe(at(before, 'primaryKey'));
    expect(at(one.body, 'secondaryKey')).toBe(at(before, 'secondaryKey'));
    const given = { keyType: 'SecondaryKey', key: 'given-key' };
    const other = await call('POST', `${path}/regenerateKeys`, { body: given });
    expect(at(other.body, 'secondaryKey')).toBe('given-key');
    expect(at(other.body, 'primaryKey')).toBe(at(one.body, 'primaryKey'));
    const wrong = await call('POST', `${path}/regenerateKeys`, { body: { keyType: 'x', key: '' } });
    expect(wrong.status).toBe(400);
  });
});

describe('the management API', () => {
  test('says which methods there are', async () => {
    const response = await fetch(`${relay.adminUrl}/api/namespaces`, { method: 'DELETE' });
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe('GET');
  });

  test.each(['/api', '/api/other', '/api/namespaces/tests/hybridConnections/%zz'])(
    'answers %s with 404',
    async path => {
      expect((await fetch(`${relay.adminUrl}${path}`)).status).toBe(404);
    },
  );

  test('refuses a body that is too long with 413', async () => {
    const body = 'x'.repeat(MANAGEMENT_BODY_BYTES_MAX + 1);
    const { status } = await call('PUT', '/hybridConnections/long', { body });
    expect(status).toBe(413);
  });

  test('asks for the admin token where there is one', async () => {
    await using guarded = await startRelay({ adminToken: 'a-token-for-tests' });
    expect((await callApi(guarded, 'GET', '')).status).toBe(401);
    const wrong = { headers: { Authorization: 'Bearer a-token-for-test' } };
    expect((await callApi(guarded, 'PUT', '/hybridConnections/x', wrong)).status).toBe(401);
    const headers = { Authorization: 'Bearer a-token-for-tests' };
    expect((await callApi(guarded, 'PUT', '/hybridConnections/x', { headers })).status).toBe(201);
  });

  test.each([
    [{ Origin: 'https://evil.example' }],
    [{ 'Sec-Fetch-Site': 'cross-site' }],
    [{ Host: 'rebound.example' }],
  ])('refuses pages from elsewhere: %j', async headers => {
    const { request } = await import('node:http');
    const status = await new Promise(resolve => {
      const path = '/api/namespaces/tests/authorizationRules/root/listKeys';
      const asked = request(`${relay.adminUrl}${path}`, { method: 'POST', headers }, response => {
        response.resume();
        resolve(response.statusCode);
      });
      asked.end();
    });
    expect(status).toBe(403);
  });

  test('logs who changed what, and no key', async () => {
    await using logged = await startRelay();
    const rule = { properties: { rights: ['Send'], primaryKey: 'logged-secret-key' } };
    await callApi(logged, 'PUT', '/authorizationRules/logged', { body: rule });
    await callApi(logged, 'POST', '/authorizationRules/logged/listKeys');
    await callApi(logged, 'DELETE', '/hybridConnections/hyco');
    const lines = logged.log.lines.map(line => JSON.parse(line));
    const resource = '/api/namespaces/tests/authorizationRules/logged';
    const remoteIp = '127.0.0.1';
    expect(lines).toContainEqual(
      expect.objectContaining({ msg: 'configuration changed', method: 'PUT', resource, remoteIp }),
    );
    expect(lines).toContainEqual(expect.objectContaining({ msg: 'keys read', remoteIp }));
    expect(lines).toContainEqual(
      expect.objectContaining({ msg: 'configuration request refused', code: 409 }),
    );
    expect(logged.log.lines.join('\n')).not.toContain('logged-secret-key');
  });
});
