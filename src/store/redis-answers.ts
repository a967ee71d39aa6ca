// Answers of Redis are lists of lists and texts, which nothing types.

export function itemsOf(answer: unknown): readonly unknown[] {
  return Array.isArray(answer) ? answer : [];
}

export function textsOf(answer: unknown): readonly string[] {
  return itemsOf(answer).map(String);
}

/** Of a list like `[field, value, …]`. */
export function pairsOf(flat: readonly string[]): readonly (readonly [string, string])[] {
  return flat.flatMap((one, i) => (i % 2 === 0 ? [[one, flat[i + 1] ?? ''] as const] : []));
}
