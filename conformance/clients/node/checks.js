// What the programs for Node.js share: where the server is, and how a check is told.
'use strict';

const util = require('node:util');
const { isDeepStrictEqual } = util;

const env = process.env;

function brief(value) {
  const text = util.inspect(value, { depth: 3, breakLength: Infinity, maxArrayLength: 200 })
    .replaceAll('\n', '\\n').replaceAll('\r', '\\r');
  return text.length <= 200 ? text : `${text.slice(0, 100)}... (${text.length} characters)`;
}

class Checks {
  constructor(prefix) {
    this.prefix = prefix + ': ';
  }

  equal(name, got, expected) {
    if (isDeepStrictEqual(got, expected)) {
      console.log(`ok ${this.prefix}${name}`);
    } else {
      console.log(`not ok ${this.prefix}${name}: ${brief(got)}, not ${brief(expected)}`);
    }
  }

  // Checks what a promise gives; an error fails the check and no more.
  async call(name, promise, expected) {
    try {
      this.equal(name, await promise, expected);
    } catch (error) {
      console.log(`not ok ${this.prefix}${name}: ${brief(String(error && error.message || error))}`);
    }
  }

  // Checks that a promise is refused, and shows what the error says.
  async fails(name, promise) {
    try {
      console.log(`not ok ${this.prefix}${name}: ${brief(await promise)}, no error`);
    } catch (error) {
      console.log(`ok ${this.prefix}${name}`);
      this.saw(name, String(error && error.message || error));
    }
  }

  saw(name, what) {
    console.log(`saw ${this.prefix}${name}: ${brief(what)}`);
  }
}

// Bytes that do not compress, the same for the same size.
function payload(size) {
  const bytes = Buffer.alloc(size);
  let state = size * 2654435761 + 1 >>> 0;
  for (let i = 0; i < size; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state >>> 11;
  }
  return bytes;
}

// Names of statistics without class numbers: which class has items depends on when expired ones
// are looked at.
function names(rows) {
  return [...new Set(Object.keys(rows).map((each) => each.replace(/\d+:/g, '')))].sort();
}

module.exports = {
  Checks,
  payload,
  names,
  address: `${env.MEMCACHED_HOST}:${env.MEMCACHED_PORT}`,
  setup: env.MEMCACHED_SETUP,
  user: env.MEMCACHED_USER,
  password: env.MEMCACHED_PASSWORD,
  FAR_S: 100000,
  SIZES: [0, 1, 4095, 70000, 600000, 1048000],
  TOO_LARGE_BYTES: 2000000,
};
