import { useRef } from 'preact/hooks';

/**
 * The body to send for what is filled in: the very one that was sent for the same before. Whoever asks again
 * because no answer came must not seal anew, or the server takes it for another request. `about`: what else
 * the body depends on, such as the key that it is sealed to.
 */
export function useSameBody<Body>(): (
  values: FormData,
  about: string | undefined,
  make: () => Promise<Body>,
) => Promise<Body> {
  const last = useRef<{ readonly filledIn: string; readonly body: Body } | undefined>(undefined);
  return async (values, about, make) => {
    const filledIn = JSON.stringify([about, ...values]);
    if (last.current?.filledIn === filledIn) return last.current.body;
    const body = await make();
    last.current = { filledIn, body };
    return body;
  };
}
