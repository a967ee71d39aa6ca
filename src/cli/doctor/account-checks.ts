import { parseSasToken } from '../../protocol/sas-token.ts';
import { failed, notTried, ok, warning, type Finding } from './finding.ts';
import { durationText } from './relay-checks.ts';
import type { Patient } from './patient.ts';

const TOKEN_ADVICE: Readonly<Record<string, string>> = {
  MalformedToken: 'the relay cannot read it: look for cut or doubly encoded text',
  ExpiredToken: "make a new one; if it is new, set this machine's clock",
  InvalidSignature:
    'check the key and the name of its rule: the relay has no such rule, or another key for it',
  InvalidAudience: 'it is for another host or hybrid connection: make one for this',
};

/** Form and expiry as we see them, signature as the relay does. */
export async function checkToken(patient: Patient): Promise<Finding> {
  const { tokens, path, clock } = patient.options;
  if (tokens === undefined) {
    return notTried('there is no key or token; give a connection string with one');
  }
  if (path === undefined) return notTried('no hybrid connection is named; give PATH');
  const token = parseSasToken((await patient.token()) ?? '');
  if (token === undefined) {
    return failed('the token is no shared access signature', TOKEN_ADVICE['MalformedToken']);
  }
  const leftMs = token.expiresAtSec * 1_000 - clock.wallMs();
  if (leftMs <= 0) {
    return failed(
      `the token expired ${durationText(-leftMs)} ago`,
      'make a new one: halfway token',
    );
  }
  const fault = (await patient.account())?.tokenFault;
  if (fault !== undefined) {
    return failed(
      `the relay does not accept the token of rule "${token.keyName}": ${fault}`,
      TOKEN_ADVICE[fault],
    );
  }
  return ok(`rule "${token.keyName}", accepted, good for ${durationText(leftMs)}`);
}

export async function checkRights(patient: Patient): Promise<Finding> {
  const account = await patient.account();
  if (account === undefined) return notTried('there is no token');
  const listen = account.manage || (await mayListen(patient));
  const rights = [
    ...(listen === true ? ['Listen'] : []),
    ...(account.send === true ? ['Send'] : []),
    ...(account.manage ? ['Manage'] : []),
  ];
  const unknown = [
    ...(listen === undefined ? ['Listen'] : []),
    ...(account.send === undefined ? ['Send'] : []),
  ];
  const untold = unknown.length === 0 ? '' : `; not found out: ${unknown.join(', ')}`;
  if (rights.length > 0) return ok(`${rights.join(', ')}${untold}`);
  const advice = 'use a rule with Listen to listen, with Send to send';
  return unknown.length > 0 ? warning(`none is known${untold}`) : failed('none', advice);
}

async function mayListen(patient: Patient): Promise<boolean | undefined> {
  for (const transport of ['websocket', 'poll'] as const) {
    const opened = await patient.opened(transport);
    if (opened === undefined) return undefined;
    if (opened.kind !== 'refused') return true;
    // A relay that is full says so to those who may.
    if (opened.why.code === 'QuotaExceeded') return true;
    if (opened.why.code === 'Forbidden' || opened.why.code === 'Unauthorized') return false;
  }
  return undefined;
}

/** Whether the hybrid connection exists and somebody listens there. */
export async function checkListener(patient: Patient): Promise<Finding> {
  const account = await patient.account();
  const name = `"${patient.options.path ?? ''}"`;
  if (account === undefined) return notTried('there is no token');
  const { exists, hasListener, listenerCount } = account;
  if (exists === false) {
    const advice =
      'check the name; make it with `halfway hyco create`, or in the config file; with `halfway dev` by listening';
    return failed(`there is no hybrid connection ${name}`, advice);
  }
  if (hasListener === false) {
    return warning(`nobody listens on ${name}`, 'start a listener, such as `halfway listen`');
  }
  if (hasListener === true) {
    const count = listenerCount === undefined ? 'somebody' : String(listenerCount);
    return ok(
      `${name} exists; ${count} ${listenerCount === 1 || count === 'somebody' ? 'listens' : 'listen'}`,
    );
  }
  const isOpen = (await patient.opened('websocket'))?.kind === 'closed';
  return isOpen
    ? ok(`${name} exists; whether somebody listens is told to those who may send`)
    : notTried('whether it exists is told to those who may listen or send');
}
