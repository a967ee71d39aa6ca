import { show } from '../base/show.ts';
import {
  checkRights,
  isRuleName,
  KEY_CHARS_MAX,
  RULE_NAME_FORM,
  RULES_MAX,
} from '../protocol/resource-rules.ts';
import type { Right, SasRule } from '../protocol/resources.ts';
import type { DocumentPath } from './document.ts';
import { fieldsAt, listAt, nameAt, optionalListAt, reportTwice } from './fields.ts';
import type { Fields, Reading } from './fields.ts';

const RULE_KEYS = [
  'name',
  'rights',
  'primaryKey',
  'primaryKeyFile',
  'secondaryKey',
  'secondaryKeyFile',
];
const NO_RULE: SasRule = { name: '', rights: [], primaryKey: '' };

/** The `authorizationRules` of a namespace or a hybrid connection. */
export function readRules(fields: Fields, path: DocumentPath, reading: Reading): SasRule[] {
  const rulesPath = [...path, 'authorizationRules'];
  const rules = optionalListAt(fields, 'authorizationRules', path, reading).map((item, index) =>
    readRule(item, [...rulesPath, index], reading),
  );
  if (rules.length > RULES_MAX) {
    reading.report(rulesPath, `must not hold more than ${RULES_MAX} rules, got ${rules.length}`);
  }
  reportTwice(rules, rulesPath, reading);
  return rules;
}

function readRule(value: unknown, path: DocumentPath, reading: Reading): SasRule {
  const fields = fieldsAt(value, path, RULE_KEYS, reading);
  if (fields === undefined) return NO_RULE;
  const name = nameAt(fields, path, reading, {
    isValid: isRuleName,
    rule: RULE_NAME_FORM,
  });
  const primaryKey = keyAt(fields, 'primaryKey', path, reading);
  if (primaryKey === undefined && !('primaryKey' in fields) && !('primaryKeyFile' in fields)) {
    reading.report(path, 'must have a primaryKey or a primaryKeyFile');
  }
  const secondaryKey = keyAt(fields, 'secondaryKey', path, reading);
  const rule = { name, rights: readRights(fields, path, reading), primaryKey: primaryKey ?? '' };
  return secondaryKey === undefined ? rule : { ...rule, secondaryKey };
}

function readRights(fields: Fields, path: DocumentPath, reading: Reading): readonly Right[] {
  const rightsPath = [...path, 'rights'];
  const items = listAt(fields['rights'], rightsPath, reading);
  if (!Array.isArray(fields['rights'])) return [];
  const { rights, faults } = checkRights(items);
  for (const { index, fault } of faults) {
    reading.report(index === undefined ? rightsPath : [...rightsPath, index], fault);
  }
  return rights;
}

/** The key itself, or what its file holds; undefined when there is neither. Faults never show a key. */
function keyAt(
  fields: Fields,
  name: 'primaryKey' | 'secondaryKey',
  path: DocumentPath,
  reading: Reading,
): string | undefined {
  const fileName = `${name}File`;
  const file = fields[fileName];
  let key = fields[name];
  if (file !== undefined && key !== undefined) {
    reading.report([...path, fileName], `must not stand beside ${name}: give one of the two`);
    return undefined;
  }
  if (file !== undefined) {
    if (typeof file !== 'string' || file === '') {
      reading.report([...path, fileName], `must be the path of a file, got ${show(file)}`);
      return undefined;
    }
    key = reading.readSecret(file, [...path, fileName]);
  }
  if (key === undefined) return undefined;
  if (typeof key === 'string' && key !== '' && key.length <= KEY_CHARS_MAX) return key;
  const place = [...path, file === undefined ? name : fileName];
  const hint = typeof key === 'string' ? '' : '; put it in quotes';
  reading.report(place, `must be a text of 1 to ${KEY_CHARS_MAX} characters${hint}`);
  return undefined;
}
