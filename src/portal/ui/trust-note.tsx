/** What a page in a browser cannot promise. Source: job-dispatch.md section 12.6. */
export function TrustNote() {
  return (
    <details class="trust">
      <summary>What you trust when you use this page</summary>
      <p>
        Passwords are sealed here, in your browser, to the key of the machine or group that will use
        them; the server only ever gets what it cannot open. But this page’s code comes from that
        server: in a browser you trust it each time the page is loaded. If you would rather not, use
        the command line: <code>halfway connection create</code> seals on your own computer, with a
        program you installed, and can insist on a fingerprint.
      </p>
    </details>
  );
}
