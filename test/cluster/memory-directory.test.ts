import { describeListenerDirectory } from '../conformance/listener-directory.ts';
import { memoryDirectories } from '../support/directories.ts';

describeListenerDirectory('MemoryDirectory', memoryDirectories);
