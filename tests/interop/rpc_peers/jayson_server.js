// A jayson tcp server on a port of its own choice, which its first event names: node jayson_server.js
'use strict';

const jayson = require('jayson');
const { serve, tell } = require('./lines');

const held = [];

const server = new jayson.Server(
  {
    add: (params, done) => {
      const [a, b] = Array.isArray(params) ? params : [params.a, params.b];
      if (typeof a !== 'number' || typeof b !== 'number') return done(server.error(-32602, 'two numbers', { a, b }));
      return done(null, a + b);
    },
    echo: (params, done) => done(null, Array.isArray(params) ? params[0] : params.value),
    nothing: (params, done) => done(null, null),
    // What jayson makes of an answer that is no error object: its own -32603.
    fail: (params, done) => done(new Error('secret')),
    forbid: (params, done) => done({ code: 1404, message: 'no such ticket', data: { number: 7 } }),
    // Answered when the test says so.
    hold: (params, done) => {
      held.push(done);
      tell('held', {});
    },
    note: (params, done) => {
      tell('noted', { params });
      done();
    },
  },
  { maxBatchLength: 1000 },
);

const listener = server.tcp();
listener.listen(0, '127.0.0.1', () => tell('ready', { port: listener.address().port }));

serve({
  release: ({ value }) => held.shift()(null, value),
});
