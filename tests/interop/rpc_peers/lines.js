// What all peers under node share: a line of JSON in for each task, a line of JSON out for each outcome and event.
// See tests/process/line_program.py.
'use strict';

const readline = require('readline');

function say(what) {
  process.stdout.write(JSON.stringify(what) + '\n');
}

// `tasks[name](details)` gives the value of the task or a promise of it; what it throws or rejects with is its error.
exports.serve = function (tasks) {
  const lines = readline.createInterface({ input: process.stdin, crlfDelay: Infinity });
  lines.on('line', async (line) => {
    const { n, task, ...details } = JSON.parse(line);
    try {
      say({ n, value: (await tasks[task](details)) ?? null });
    } catch (error) {
      say({ n, error: { code: error.code ?? null, message: String(error.message), data: error.data ?? null } });
    }
  });
  lines.on('close', () => process.exit(0));
};

exports.tell = function (event, details) {
  say({ event, ...details });
};
