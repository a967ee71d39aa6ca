import { UnreadableRecord } from './repository.ts';

/**
 * Does something for each, one after the other. A record that cannot be read holds up nobody behind it: the
 * failure is thrown when all others are done. Any other failure is thrown at once.
 */
export async function oneByOne<Item>(
  items: readonly Item[],
  act: (item: Item) => Promise<unknown>,
): Promise<void> {
  let unreadable: UnreadableRecord | undefined;
  for (const item of items) {
    try {
      await act(item);
    } catch (error) {
      if (!(error instanceof UnreadableRecord)) throw error;
      unreadable ??= error;
    }
  }
  if (unreadable !== undefined) throw unreadable;
}
