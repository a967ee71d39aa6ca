import ipaddr from 'ipaddr.js';
import { quote } from '../base/show.ts';

/** What a text meant, or what it must be instead; the fault continues a sentence that names the option. */
export type Parsed<Value> = { readonly value: Value } | { readonly fault: string };

export type Parse<Value> = (text: string) => Parsed<Value>;

/** Longest delay that a timer of Node takes; a longer one would fire at once. */
export const DELAY_MS_MAX = 2 ** 31 - 1;

export function wholeNumber(min: number, max: number): Parse<number> {
  return text => {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return { value };
    return { fault: `must be a whole number from ${min} to ${max}, got ${quote(text)}` };
  };
}

/** A number of processes, or `auto`: one for each core. */
export function processCount(max: number): Parse<number | 'auto'> {
  const count = wholeNumber(1, max);
  return text => {
    const parsed = text === 'auto' ? { value: 'auto' as const } : count(text);
    return 'value' in parsed ? parsed : { fault: parsed.fault.replace(', got', ' or auto, got') };
  };
}

export function oneOf<const Choice extends string>(...choices: readonly Choice[]): Parse<Choice> {
  return text => {
    const value = choices.find(choice => choice === text);
    if (value !== undefined) return { value };
    return { fault: `must be one of ${choices.join(', ')}, got ${quote(text)}` };
  };
}

export function yesOrNo(text: string): Parsed<boolean> {
  if (text === 'true' || text === '1') return { value: true };
  if (text === 'false' || text === '0') return { value: false };
  return { fault: `must be true or false, got ${quote(text)}` };
}

export function filePath(text: string): Parsed<string> {
  if (text !== '' && !text.includes('\0')) return { value: text };
  return { fault: `must be the path of a file, got ${quote(text)}` };
}

/** A secret as it stands; the fault never shows it. */
export function secretText(text: string): Parsed<string> {
  // A token with spaces or control characters could not be sent in a header.
  if (/^[\x21-\x7e]{16,1024}$/.test(text)) return { value: text };
  return { fault: 'must be 16 to 1024 printable ASCII characters without spaces' };
}

/** A secret that nobody can try out: what it opens is reached by strangers, too. */
export function longSecretText(text: string): Parsed<string> {
  const parsed = secretText(text);
  if ('value' in parsed && text.length >= LONG_SECRET_CHARS_MIN) return parsed;
  return {
    fault: `must be ${LONG_SECRET_CHARS_MIN} to 1024 printable ASCII characters without spaces`,
  };
}

const LONG_SECRET_CHARS_MIN = 32;

// Names and limits are Azure's (azure-relay-protocol 6.1) but for the shortest name of a namespace: Azure asks for six
// characters because its names are unique in the world, ours are not.
const NAMESPACE_NAME = /^[A-Za-z]([A-Za-z0-9-]{0,48}[A-Za-z0-9])?$/;
export const NAMESPACE_NAME_FORM =
  '1 to 50 letters, digits or hyphens, beginning with a letter, not ending with a hyphen';

export function namespaceName(text: string): Parsed<string> {
  if (NAMESPACE_NAME.test(text)) return { value: text };
  return { fault: `must be ${NAMESPACE_NAME_FORM}, got ${quote(text)}` };
}

/** An address to listen on, or a name that resolves to one. */
export function hostToBind(text: string): Parsed<string> {
  const bare = text.replace(/^\[(.*)\]$/, '$1');
  if (isAddress(bare) || isHostName(bare)) return { value: bare };
  return { fault: `must be an IP address or a host name, got ${quote(text)}` };
}

/** What names end with: `relay.example.com`, also written `*.relay.example.com`. */
export function hostSuffix(text: string): Parsed<string> {
  const bare = text.replace(/^\*?\./, '').toLowerCase();
  // An address is the end of no name.
  if (isHostName(bare) && !/^[\d.]+$/.test(bare)) return { value: bare };
  return { fault: `must be a name such as relay.example.com, got ${quote(text)}` };
}

/** Host names separated by commas, in lower case and without a final dot. No ports: they do not count. */
export function hostNames(text: string): Parsed<readonly string[]> {
  const parts = text.split(',').map(part => part.trim());
  const names = parts
    .filter(part => part !== '')
    .map(part => ({ part, name: part.replace(/\.$/, '').toLowerCase() }));
  const wrong = names.filter(({ name }) => !isHostName(name));
  if (wrong.length === 0) return { value: [...new Set(names.map(({ name }) => name))] };
  const shown = wrong.map(({ part }) => quote(part)).join(', ');
  return { fault: `must be host names such as portal.example.com, without a port, got ${shown}` };
}

/** Only the scheme is looked at: what is behind it belongs to the Redis client, which says more. */
export function redisUrl(text: string): Parsed<string> {
  return /^rediss?(?:\+(?:sentinel|cluster))?:\/\/\S+$/.test(text)
    ? { value: text }
    : { fault: 'must be such as redis://host:6379, redis+sentinel://host/master or rediss://host' };
}

/** A host, or `host:port`. */
export function meshAddress(text: string): Parsed<string> {
  return /^(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?$/i.test(text)
    ? { value: text }
    : { fault: `must be a host or host:port, got ${quote(text)}` };
}

export function nodeName(text: string): Parsed<string> {
  if (/^[A-Za-z0-9._-]{1,64}$/.test(text)) return { value: text };
  return { fault: `must be 1 to 64 letters, digits, ".", "_" or "-", got ${quote(text)}` };
}

const ORIGIN_SCHEMES = new Set(['http:', 'https:', 'ws:', 'wss:']);

/** Scheme, host and port, nothing else; a single trailing slash is forgiven. */
export function origin(text: string): Parsed<string> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isBare =
    url !== undefined &&
    ORIGIN_SCHEMES.has(url.protocol) &&
    `${url.username}${url.password}${url.search}${url.hash}` === '' &&
    url.pathname === '/';
  if (isBare) return { value: `${url.protocol}//${url.host}` };
  const shown = url === undefined || url.password === '' ? `, got ${quote(text)}` : '';
  return { fault: `must be http, https, ws or wss, a host and a port, without a path${shown}` };
}

/** Addresses and CIDR ranges, separated by commas; a lone address is a range of one. */
export function addressRanges(text: string): Parsed<readonly string[]> {
  const parts = text.split(',').map(part => part.trim());
  const ranges = parts.filter(part => part !== '').map(toRange);
  const isComplete = ranges.every(range => range !== undefined);
  if (isComplete) return { value: ranges };
  const wrong = parts.filter(part => part !== '' && toRange(part) === undefined);
  const shown = wrong.map(quote).join(', ');
  return { fault: `must be IP addresses or ranges such as 10.0.0.0/8, got ${shown}` };
}

/** Whether only this machine can reach what is bound to `host`. */
export function isLoopback(host: string): boolean {
  if (host.toLowerCase() === 'localhost') return true;
  return isAddress(host) && ipaddr.process(host).range() === 'loopback';
}

/** Whether `text` could be a name in DNS: labels of letters, digits and inner hyphens (or underscores). */
export function isHostName(text: string): boolean {
  const label = '[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?';
  return text.length <= 253 && new RegExp(`^${label}(\\.${label})*$`).test(text);
}

/** ipaddr.js also reads "10" and "0x7f.1" as IPv4; nobody who writes that means it. */
function isAddress(text: string): boolean {
  return ipaddr.IPv4.isValidFourPartDecimal(text) || ipaddr.IPv6.isValid(text);
}

function toRange(text: string): string | undefined {
  const [host = '', bits, ...more] = text.split('/');
  if (!isAddress(host) || more.length > 0) return undefined;
  if (bits !== undefined) return ipaddr.isValidCIDR(text) ? text : undefined;
  const address = ipaddr.process(host);
  return `${address.toString()}/${address.kind() === 'ipv4' ? 32 : 128}`;
}
