/** Numbers from 0 up to but not 1, the same in every run for the same seed (xorshift of 32 bits). */
export function seeded(seed: number): () => number {
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}

/** A whole number from 0 to `bound` - 1. */
export function below(random: () => number, bound: number): number {
  return Math.floor(random() * bound);
}
