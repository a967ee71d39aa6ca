import { LRUCache } from 'lru-cache';
import type { Document, DocumentKey, Partition } from './dispatch-store.ts';

/** Longer documents are outputs and the like, which hardly anybody reads twice. */
const DOCUMENT_CHARS_MAX = 64 * 1024;
/** A string has one byte or two for each character, and whoever holds it knows not which. */
const BYTES_PER_CHAR = 2;
/** What an entry takes besides its texts, about. */
const ENTRY_BYTES = 300;

/**
 * Documents as they are in a store that this process alone writes to: whoever writes sets, whoever removes deletes,
 * and a write that failed clears all. The ones that were not asked for the longest leave first.
 */
export class DocumentCache {
  readonly #documents: LRUCache<string, Document>;

  constructor(bytesMax: number) {
    this.#documents = new LRUCache({
      maxSize: bytesMax,
      sizeCalculation: ({ text }, name) =>
        ENTRY_BYTES + BYTES_PER_CHAR * (text.length + name.length),
    });
  }

  /** Never more than it was made for. */
  get bytes(): number {
    return this.#documents.calculatedSize;
  }

  get(partition: Partition, key: DocumentKey): Document | undefined {
    return this.#documents.get(nameOf(partition, key));
  }

  /** In the place of what was there. Returns the document. */
  set(partition: Partition, document: Document): Document {
    const name = nameOf(partition, document.key);
    if (document.text.length > DOCUMENT_CHARS_MAX) this.#documents.delete(name);
    else this.#documents.set(name, document);
    return document;
  }

  delete(partition: Partition, key: DocumentKey): void {
    this.#documents.delete(nameOf(partition, key));
  }

  clear(): void {
    this.#documents.clear();
  }
}

/** `/` is in no name. */
function nameOf(partition: Partition, { kind, id }: DocumentKey): string {
  return `${partition}/${kind}/${id}`;
}
