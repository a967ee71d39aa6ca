import { usePlace } from '../place.ts';
import { href } from '../route.ts';
import { Empty } from '../ui/parts.tsx';

/** Why nothing can be run, and the way out. `target`: whom there is none to. Source: job-dispatch.md row A14. */
export function NoConnection({ target }: { readonly target?: string }) {
  const { environment } = usePlace();
  return (
    <Empty title="A run needs a connection, and there is none yet">
      <p>A connection says where the run goes and which account it runs as.</p>
      <a class="button primary" href={href(environment, 'connections', 'new', { target })}>
        Create a connection
      </a>
    </Empty>
  );
}
