// A quarter of the suites of single relays, through HAProxy and three nodes.
import { runOnCluster } from '../support/cluster-suites.ts';

runOnCluster({ part: 3, of: 4 });
