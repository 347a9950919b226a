// memcached (npm): the text protocol from Node.js.
'use strict';

const Memcached = require('memcached');
const {
  Checks, payload, names, address, FAR_S, SIZES, TOO_LARGE_BYTES,
} = require('../node/checks.js');

// The client's methods as promises.
function promised(client) {
  return new Proxy(client, {
    get(target, name) {
      return (...given) => new Promise((resolve, reject) => {
        target[name](...given, (error, got) => error ? reject(error) : resolve(got));
      });
    },
  });
}

async function basics(t, client) {
  await t.call('flush', client.flush(), [true]);
  await t.call('get none', client.get('a'), undefined);
  await t.call('set', client.set('a', '1', FAR_S), true);
  await t.call('get', client.get('a'), '1');
  await t.fails('add there', client.add('a', '2', FAR_S));
  await t.call('add', client.add('b', '2', FAR_S), true);
  await t.call('replace', client.replace('a', '3', FAR_S), true);
  await t.fails('replace none', client.replace('none', '3', FAR_S));
  await t.call('append', client.append('a', '4'), true);
  await t.call('prepend', client.prepend('a', '5'), true);
  await t.fails('append none', client.append('none', '4'));
  await t.call('joined', client.get('a'), '534');
  await t.call('incr', client.incr('a', 7), 541);
  await t.call('decr', client.decr('a', 40), 501);
  await t.call('decr below zero', client.decr('a', 4000), 0);
  await t.call('incr none', client.incr('none', 1), false);
  await t.call('touch', client.touch('b', FAR_S), true);
  await t.call('touch none', client.touch('none', FAR_S), false);
  await t.call('born expired', client.set('gone', 'x', 2592001), true);
  await t.call('expired', client.get('gone'), undefined);
  const { a, cas } = await client.gets('a');
  t.equal('gets', a, '0  ');
  await t.call('gets none', client.gets('none'), undefined);
  await t.call('cas', client.cas('a', 'c', cas, FAR_S), true);
  await t.call('cas too late', client.cas('a', 'd', cas, FAR_S), false);
  await t.call('after cas', client.get('a'), 'c');
  await t.call('del', client.del('a'), true);
  await t.call('del none', client.del('a'), false);
  for (const value of [5, -2.5, true, false, { a: [1, 'ü'] }, 'ünï']) {
    await client.set('type', value, FAR_S);
    await t.call(`type ${JSON.stringify(value)}`, client.get('type'), value);
  }
  for (const size of SIZES.slice(1)) {
    // As text: it makes bytes larger on the way.
    const value = payload(size).toString('base64').slice(0, size);
    await t.call(`set ${size} bytes`, client.set('v', value, FAR_S), true);
    await t.call(`get ${size} bytes`, client.get('v'), value);
  }
  await client.set('text', 'abc', FAR_S);
  await t.fails('incr text', client.incr('text', 1));
  await t.call('usable', client.get('text'), 'abc');
  await t.call('long key', client.set('k'.repeat(251), '1', FAR_S), true);
  await t.call('get of long key', client.get('k'.repeat(251)), '1');
  const key = 'k'.repeat(250);
  await t.call('longest key', client.set(key, '1', FAR_S), true);
  await t.call('get of longest key', client.get(key), '1');
}

async function crowd(t, client) {
  const keys = Array.from({ length: 300 }, (_, i) => `m${i}`);
  const done = await Promise.all(keys.map((key) => client.set(key, key, FAR_S)));
  t.equal('sets', done.every(Boolean), true);
  const all = Object.fromEntries(keys.map((key) => [key, key]));
  await t.call('getMulti', client.getMulti([...keys, 'none']), all);
  await t.call('gets', Promise.all(keys.map((key) => client.get(key))), keys);
  await client.set('count', 0, FAR_S);
  await Promise.all(keys.map(() => client.incr('count', 1)));
  await t.call('counted', client.get('count'), 300);
  const refused = keys.map((key) => client.add('once', key, FAR_S).catch(() => false));
  const added = await Promise.all(refused);
  t.equal('one add won', added.filter(Boolean).length, 1);
}

async function administration(t, client) {
  t.saw('version', (await client.version()).map((each) => each.version));
  for (const name of ['stats', 'settings', 'slabs', 'items']) {
    t.saw(name, names((await client[name]())[0]));
  }
  const [items] = await client.items();
  const classes = Object.keys(items).filter((each) => /^\d+$/.test(each));
  const found = await client.cachedump(address, Number(classes[0]), 3);
  // It lists COLD items alone: there are none until the maintainer has moved some.
  const listed = [found].flat().filter(Boolean);
  t.equal('cachedump', listed.every((each) => each.key && each.b >= 0), true);
  await t.call('flush', client.flushAll(), [true]);
  await t.call('flushed', client.get('m1'), undefined);
}

async function main() {
  const raw = new Memcached(address, { poolSize: 8, timeout: 20000, maxValue: TOO_LARGE_BYTES * 2 });
  const client = promised(raw);
  await basics(new Checks('basics'), client);
  await crowd(new Checks('crowd'), client);
  await administration(new Checks('administration'), client);
  const prefixed = new Memcached(address, { namespace: 'p:', maxKeySize: 200, keyCompression: true });
  const t = new Checks('namespace');
  const key = 'k'.repeat(400);
  await t.call('set', promised(prefixed).set(key, '1', FAR_S), true);
  await t.call('get', promised(prefixed).get(key), '1');
  prefixed.end();
  const last = new Checks('large');
  await client.set('large', 'old', FAR_S);
  // After this it takes the server for dead.
  await last.call('too large', client.set('large', 'x'.repeat(TOO_LARGE_BYTES), FAR_S), false);
  const other = new Memcached(address);
  await last.call('old value gone', promised(other).get('large'), undefined);
  process.exit(0);
}

main();
