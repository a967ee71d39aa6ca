import { describe, expect, test } from 'vitest';
import { censorText, censorUrl } from '../../src/observability/censor.ts';
import { openLog, type LogOptions, type ProcessLogger } from '../../src/observability/log.ts';

async function open(
  options: Partial<LogOptions> = {},
): Promise<{ readonly log: ProcessLogger; readonly lines: readonly string[] }> {
  const lines: string[] = [];
  const destination = { write: (line: string) => lines.push(line) };
  const format = { level: 'info', format: 'json', colour: false } as const;
  const origin = { nodeId: 'n1', version: '1.2.3' };
  const log = await openLog({ ...format, ...origin, destination, ...options });
  return { log, lines };
}

describe('openLog()', () => {
  test('writes one JSON object a line, with level as name, ISO time and the base fields', async () => {
    const { log, lines } = await open();
    log.info({ port: 8080 }, 'listening');
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? '')).toEqual({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      service: 'halfway',
      node: 'n1',
      version: '1.2.3',
      port: 8080,
      msg: 'listening',
    });
  });

  test('keeps back what is below its level, but for a child that asks for more', async () => {
    const { log, lines } = await open({ level: 'error' });
    log.info({}, 'kept back');
    log.child({ part: 'start' }, { level: 'info' }).info({}, 'said');
    expect(lines.map(line => JSON.parse(line).msg)).toEqual(['said']);
    expect(lines[0]).toContain('"part":"start"');
  });

  test('hides secrets by the name of their field', async () => {
    const { log, lines } = await open();
    const headers = { authorization: 's3cret', 'set-cookie': 's3cret', accept: 'text/html' };
    log.info({ token: 's3cret', primaryKey: 's3cret', headers }, 'refused');
    expect(lines[0]).not.toContain('s3cret');
    expect(lines[0]).toContain('text/html');
  });

  test('hides what grants something in addresses, and leaves the rest of them', async () => {
    const { log, lines } = await open();
    log.info({ url: '/$hc/orders?room=7&sb-hc-token=s3cret&x=1' }, 'refused');
    expect(lines[0]).toContain('"/$hc/orders?room=7&sb-hc-token=[redacted]&x=1"');
  });

  test('hides secrets in the message and stack of an error', async () => {
    const { log, lines } = await open();
    const err = new Error('Cannot open ws://h/$hc/a?sb-hc-id=s3cret, SharedAccessKey=s3cret;');
    log.error({ err }, 'dial failed');
    expect(lines[0]).not.toContain('s3cret');
    expect(JSON.parse(lines[0] ?? '').err.stack).toContain('log.test.ts');
  });

  test('writes for people when asked, without colours where there are none', async () => {
    const { log, lines } = await open({ format: 'pretty' });
    log.info({ port: 8080 }, 'listening');
    expect(lines.join('')).toMatch(/^\[[\d:.]+\] INFO: listening \{"port":8080\}\n$/);
  });
});

describe('censorUrl()', () => {
  test.each([
    ['wss://h/$hc/a?sb-hc-action=accept&sb-hc-id=abc', 'sb-hc-action=accept&sb-hc-id=[redacted]'],
    ['/a?SB-HC-TOKEN=abc#f', '/a?SB-HC-TOKEN=[redacted]#f'],
    ['/a?sb%2Dhc%2dtoken=abc', '/a?sb%2Dhc%2dtoken=[redacted]'],
    ['GET /a?sb-hc-token=abc HTTP/1.1', 'sb-hc-token=[redacted] HTTP/1.1'],
  ])('blanks what grants something in %s', (text, expected) => {
    expect(censorUrl(text)).toContain(expected);
    expect(censorUrl(text)).not.toContain('abc');
  });
});

test('censorText() blanks keys of connection strings and signatures of tokens', () => {
  const text = 'SharedAccessSignature sr=a&sig=abc%3d&se=1; SharedAccessKey=abc=;EntityPath=e';
  expect(censorText(text)).toBe(
    'SharedAccessSignature sr=a&sig=[redacted]&se=1; SharedAccessKey=[redacted];EntityPath=e',
  );
});

test('censorText() blanks tokens and codes of job dispatch by their form', () => {
  const text = 'Bearer hwt_Ab-1_, hwm_eyJh.b64; code hwa_xyz and whsec_MfKQ+9/g==: refused';
  expect(censorText(text)).toBe(
    'Bearer hwt_[redacted], hwm_[redacted]; code hwa_[redacted] and whsec_[redacted]: refused',
  );
  expect(censorText('shwt_ and hwt')).toBe('shwt_ and hwt');
});
