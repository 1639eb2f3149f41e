// jayson's tcp client, and its own framing on one connection that stays: node jayson_client.js PORT
'use strict';

const net = require('net');
const jayson = require('jayson');
const { serve } = require('./lines');

const address = { host: '127.0.0.1', port: Number(process.argv[2]) };
const client = jayson.Client.tcp(address);

// The whole response, as jayson's client hands it over; undefined is a notification that was sent.
function request(...said) {
  return new Promise((resolve, reject) => {
    client.request(...said, (error, response) => (error ? reject(error) : resolve(response ?? 'no answer')));
  });
}

// Many requests written at once on one connection, and the responses in the order in which they came.
function pipeline(requests) {
  return new Promise((resolve, reject) => {
    const responses = [];
    const expected = requests.filter((one) => !jayson.Utils.Request.isNotification(one)).length;
    const connection = net.connect(address, () => {
      connection.write(requests.map((one) => JSON.stringify(one) + '\n').join(''));
    });
    jayson.Utils.parseStream(connection, {}, (error, response) => {
      if (error) return reject(error);
      responses.push(response);
      if (responses.length === expected) connection.end(() => resolve(responses));
    });
    connection.on('error', reject);
  });
}

serve({
  request: ({ method, params, id }) => request(method, params, id),
  notify: ({ method, params }) => request(method, params, null),
  // A batch is made of the client's own requests, as its documentation does it.
  batch: ({ calls }) => request(calls.map(({ method, params, id }) => client.request(method, params, id))),
  raw: ({ items }) => request(items),
  many: ({ method, times }) =>
    Promise.all(Array.from({ length: times }, (_, n) => request(method, [n, 1]).then(({ result }) => result))),
  pipeline: ({ method, times }) =>
    pipeline(Array.from({ length: times }, (_, n) => jayson.Utils.request(method, [n, 1], n + 1))),
});
