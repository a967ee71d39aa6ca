import fc from 'fast-check';
import { test } from 'vitest';
import { happening, runHistory } from '../conformance/directory-histories.ts';
import { describeListenerDirectory } from '../conformance/listener-directory.ts';
import { memoryDirectories } from '../support/directories.ts';

describeListenerDirectory('MemoryDirectory', memoryDirectories);

test('after any history all memories are what the nodes hold', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(happening, { maxLength: 60 }),
      fc.constantFrom(3, 1_000),
      async (history, feedChangesMax) => {
        await runHistory(() => memoryDirectories({ feedChangesMax }), history);
      },
    ),
    { numRuns: 60 },
  );
});
