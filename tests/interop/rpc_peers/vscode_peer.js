// vscode-jsonrpc: node vscode_peer.js listen | connect PORT | spawn PROGRAM ARGUMENTS...
'use strict';

const { spawn } = require('child_process');
const net = require('net');
const rpc = require('vscode-jsonrpc/node');
const { serve, tell } = require('./lines');

let connection;
const sources = new Map();

function begin(reader, writer) {
  connection = rpc.createMessageConnection(reader, writer, undefined, undefined);
  connection.onRequest('add', (a, b) => a + b);
  connection.onRequest('named', ({ a, b }) => ({ a, b }));
  connection.onRequest('fail', () => {
    throw new rpc.ResponseError(1404, 'no such ticket', { number: 7 });
  });
  connection.onRequest('crash', () => {
    throw new Error('not foreseen');
  });
  // Goes on until it is cancelled; then it is answered as the Language Server Protocol wants it.
  connection.onRequest('wait', (...said) => {
    const token = said.at(-1);
    tell('waiting', {});
    return new Promise((resolve) => {
      token.onCancellationRequested(() => {
        tell('cancelled', {});
        resolve(new rpc.ResponseError(-32800, 'given up'));
      });
    });
  });
  connection.onRequest('progressive', async ({ token, steps }) => {
    for (let step = 1; step <= steps; step++) {
      await connection.sendProgress(new rpc.ProgressType(), token, { step });
    }
    return steps;
  });
  connection.onNotification('note', (params) => tell('noted', { params }));
  connection.onUnhandledNotification((said) => tell('unhandled', { method: said.method }));
  connection.onError(([error]) => tell('error', { message: String(error) }));
  connection.onClose(() => tell('closed', {}));
  connection.listen();
}

const onSocket = (socket) => begin(new rpc.SocketMessageReader(socket), new rpc.SocketMessageWriter(socket));

const [how, port] = process.argv.slice(2);
if (how === 'listen') {
  const server = net.createServer(onSocket).listen(0, '127.0.0.1', () => tell('ready', { port: server.address().port }));
} else if (how === 'connect') {
  const socket = net.connect(Number(port), '127.0.0.1', () => {
    onSocket(socket);
    tell('ready', {});
  });
} else {
  // As an editor starts a language server: its standard input and output are the connection.
  const child = spawn(process.argv[3], process.argv.slice(4), { stdio: ['pipe', 'pipe', 'inherit'] });
  child.on('exit', (code) => tell('exited', { code }));
  begin(new rpc.StreamMessageReader(child.stdout), new rpc.StreamMessageWriter(child.stdin));
  tell('ready', {});
}

serve({
  // Positional arguments are told from a single named set by vscode-jsonrpc itself.
  request: ({ method, args }) => connection.sendRequest(method, ...args),
  cancellable: ({ method, args, name }) => {
    const source = new rpc.CancellationTokenSource();
    sources.set(name, source);
    return connection.sendRequest(method, ...args, source.token);
  },
  cancel: ({ name }) => sources.get(name).cancel(),
  notify: ({ method, args }) => connection.sendNotification(method, ...args),
  many: ({ method, times }) =>
    Promise.all(Array.from({ length: times }, (_, n) => connection.sendRequest(method, n, 1))),
  hear_progress: ({ token }) => {
    connection.onProgress(new rpc.ProgressType(), token, (value) => tell('progress', { value }));
  },
  hang_up: () => connection.end(),
  send_progress: ({ token, value }) => connection.sendProgress(new rpc.ProgressType(), token, value),
});
