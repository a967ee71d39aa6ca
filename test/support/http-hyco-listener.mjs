// A listener on the real package hyco-https, in a process of its own: what it does not catch ends it, and it replaces
// parts of node's https module. Arguments: listen URL, token. Says 'listening' to its parent, and 'closed' on request.
import { createRequire } from 'node:module';

const https = createRequire(import.meta.url)('hyco-https');
const [server = '', token = ''] = process.argv.slice(2);

const listener = https.createRelayedServer({ server, token: () => token }, (request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://h');
  const chunks = [];
  request.on('data', chunk => chunks.push(chunk));
  request.on('end', () => {
    const body = Buffer.concat(chunks.map(chunk => Buffer.from(chunk)));
    const size = Number(searchParams.get('size') ?? 0);
    switch (pathname.slice(pathname.lastIndexOf('/') + 1)) {
      case 'echo':
        response.setHeader('Content-Type', 'application/x-echo');
        response.setHeader('X-Method', request.method);
        response.setHeader('X-Number', 7);
        response.end(body);
        return;
      case 'describe': {
        const { method, url, headers } = request;
        response.end(JSON.stringify({ method, url, headers, bytes: body.length }));
        return;
      }
      case 'status':
        response.statusCode = Number(searchParams.get('code'));
        response.setHeader('ETag', '"1"');
        response.end();
        return;
      case 'large':
        response.writeHead(200, { 'Content-Type': 'application/x-large', 'Content-Length': size });
        response.end(Buffer.alloc(size, 'x'));
        return;
      case 'stream': {
        response.writeHead(200, { 'Content-Type': 'text/event-stream' });
        let sent = 0;
        const timer = setInterval(() => {
          response.write(`data: ${sent}\n\n`);
          sent += 1;
          if (sent < 5) return;
          clearInterval(timer);
          response.end();
        }, 20);
        return;
      }
      default:
        response.writeHead(404, 'No such thing', { 'X-Why': 'unknown' });
        response.end('nothing here');
    }
  });
});
listener.on('listening', () => process.send?.('listening'));
listener.on('error', () => {});
listener.listen();

process.on('message', message => {
  if (message !== 'close') return;
  listener.close();
  process.disconnect();
});
