/**
 * A comma ends a cookie when a new `name=` follows. Commas inside an `Expires` date are followed by
 * a day and a space, commas inside a value by something without an equals sign.
 */
const BETWEEN_COOKIES = /,[ \t]*(?=[!#$%&'*+\-.^_`|~\w]+=)/;

/**
 * Undoes the joining of several `Set-Cookie` values by commas, which .NET listeners do. A value with
 * text of the form `, name=` inside cannot be told from two cookies and is split.
 */
export function splitSetCookie(joined: string): readonly string[] {
  if (!joined.includes(',')) return [joined];
  return joined.split(BETWEEN_COOKIES).map(cookie => cookie.trim());
}
