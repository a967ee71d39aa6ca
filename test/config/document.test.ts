import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseConfigDocument } from '../../src/config/document.ts';

/** What means something in YAML. */
const SIGNS = Array.from('{}[]:,&*- \n"\'!|>#a1');

describe('parseConfigDocument()', () => {
  test('says where a value stands, or the nearest thing around it', () => {
    const parsed = parseConfigDocument('a.yaml', 'one:\n  - two: 2\n    three: [x, y]\n');
    if (!('document' in parsed)) throw new Error(parsed.faults.join());
    expect(parsed.document.where(['one', 0, 'three', 1])).toBe('a.yaml:3:16: one[0].three[1]');
    expect(parsed.document.where(['one', 0, 'four'])).toBe('a.yaml:2:5: one[0].four');
  });

  test('follows aliases to what they stand for', () => {
    const parsed = parseConfigDocument('a.yaml', 'rule: &r { name: x }\nlist: [*r]\n');
    if (!('document' in parsed)) throw new Error(parsed.faults.join());
    expect(parsed.document.value).toEqual({ rule: { name: 'x' }, list: [{ name: 'x' }] });
    expect(parsed.document.where(['list', 0, 'name'])).toBe('a.yaml:1:12: list[0].name');
  });

  test('reports text that is no YAML with line and column, and without quoting it', () => {
    const parsed = parseConfigDocument('a.yaml', 'good: 1\nprimaryKey: "hunter2\nbad: [\n');
    if (!('faults' in parsed)) throw new Error('parsed');
    expect(parsed.faults[0]).toMatch(/^a\.yaml:\d+:\d+: /);
    expect(parsed.faults.join()).not.toContain('hunter2');
  });

  test('reports a key that stands twice', () => {
    const parsed = parseConfigDocument('a.yaml', 'port: 1\nport: 2\n');
    expect(parsed).toEqual({ faults: ['a.yaml:2:1: Map keys must be unique'] });
  });

  test('refuses aliases that multiply', () => {
    const levels = Array.from(
      { length: 20 },
      (_, n) => `a${n + 1}: &a${n + 1} [${`*a${n}, `.repeat(9)}]`,
    );
    const bomb = ['a0: &a0 [x]', ...levels].join('\n');
    expect(parseConfigDocument('a.yaml', bomb)).toEqual({
      faults: [expect.stringContaining('a.yaml: cannot be read: Excessive alias count')],
    });
  });

  test('survives nesting that is deeper than the stack, and keeps its report short', () => {
    const parsed = parseConfigDocument('a.yaml', '['.repeat(20_000));
    expect('faults' in parsed && parsed.faults.length).toBe(10);
  });

  test('never throws', () => {
    const text = fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...SIGNS) }));
    fc.assert(
      fc.property(text, input => {
        expect(Object.keys(parseConfigDocument('a', input))).toHaveLength(1);
      }),
    );
  });
});
