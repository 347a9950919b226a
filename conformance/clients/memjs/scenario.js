// memjs: the binary protocol from Node.js, with SASL.
'use strict';

const memjs = require('memjs');
const {
  Checks, payload, names, address, setup, user, password, FAR_S, SIZES, TOO_LARGE_BYTES,
} = require('../node/checks.js');

const silent = { log() {} };

function text(promise) {
  return promise.then(({ value }) => value === null ? null : value.toString());
}

// The number that incr and decr answer.
function number(promise) {
  return promise.then(({ success, value }) => success ? value : null);
}

async function basics(t, client) {
  await t.call('get none', text(client.get('a')), null);
  await t.call('set', client.set('a', '1', {}), true);
  await t.call('get', text(client.get('a')), '1');
  await t.call('add there', client.add('a', '2', {}), false);
  await t.call('add', client.add('b', '2', {}), true);
  await t.call('replace', client.replace('a', '3', {}), true);
  await t.call('replace none', client.replace('none', '3', {}), false);
  await t.call('append', client.append('a', '4'), true);
  await t.call('prepend', client.prepend('a', '5'), true);
  await t.fails('append none', client.append('none', '4'));
  await t.fails('prepend none', client.prepend('none', '4'));
  // It sends append for both.
  await t.call('joined', text(client.get('a')), '345');
  await t.call('increment makes', number(client.increment('n', 5, { initial: 10 })), 10);
  await t.call('increment', number(client.increment('n', 5, {})), 15);
  await t.call('decrement', number(client.decrement('n', 4, {})), 11);
  await t.call('decrement below zero', number(client.decrement('n', 40, {})), 0);
  await t.call('touch', client.touch('b', FAR_S), true);
  await t.call('touch none', client.touch('none', FAR_S), false);
  await t.call('born expired', client.set('gone', 'x', { expires: 2592001 }), true);
  await t.call('expired', text(client.get('gone')), null);
  await t.call('delete', client.delete('a'), true);
  await t.call('delete none', client.delete('a'), false);
  for (const size of SIZES) {
    const value = payload(size);
    await t.call(`set ${size} bytes`, client.set('v', value, {}), true);
    await t.call(`get ${size} bytes`, client.get('v').then((found) => found.value), value);
  }
  const key = 'k'.repeat(250);
  await t.call('longest key', client.set(key, '1', {}), true);
  await t.call('get of longest key', text(client.get(key)), '1');
  await t.call('wide key', client.set('a b ü', '1', {}), true);
  await t.call('get of wide key', text(client.get('a b ü')), '1');
  await client.set('text', 'abc', {});
  await t.fails('increment text', client.increment('text', 1, {}));
  await t.call('usable', text(client.get('text')), 'abc');
  await client.set('large', 'old', {});
  await t.fails('too large', client.set('large', payload(TOO_LARGE_BYTES), {}));
  await t.call('old value gone', text(client.get('large')), null);
}

async function crowd(t, client) {
  const keys = Array.from({ length: 500 }, (_, i) => `m${i}`);
  const done = await Promise.all(keys.map((key) => client.set(key, key, {})));
  t.equal('sets', done.every(Boolean), true);
  const got = await Promise.all(keys.map((key) => text(client.get(key))));
  t.equal('gets', got, keys);
  await client.set('count', '0', {});
  await Promise.all(keys.map(() => client.increment('count', 1, {})));
  await t.call('counted', text(client.get('count')), '500');
  const added = await Promise.all(keys.map((key) => client.add('once', key, {})));
  t.equal('one add won', added.filter(Boolean).length, 1);
}

function report(client, name) {
  return new Promise((resolve, reject) => {
    const each = (error, server, rows) => error ? reject(error) : resolve(rows);
    if (name) client.statsWithKey(name, each); else client.stats(each);
  });
}

function flush(client) {
  return new Promise((resolve, reject) => {
    client.flush((error, done) => error ? reject(error) : resolve(Object.values(done)));
  });
}

async function logins(t) {
  for (const [name, options] of [
    ['wrong password', { username: user, password: password + 'x' }],
    ['unknown user', { username: 'nobody', password }],
  ]) {
    const said = [];
    const logger = { log: (...words) => said.push(words.join(' ')) };
    const client = memjs.Client.create(address, { ...options, logger, retries: 1, timeout: 0.5 });
    // What is asked behind a refused login is never answered; the server's word is in the log.
    const refused = client.set('a', '1', {}).then((done) => done, () => 'failed');
    await refused;
    t.saw(name, said.filter((each) => /auth/i.test(each)));
    client.close();
  }
}

async function main() {
  const options = { logger: silent, timeout: 20, conntimeout: 20, retries: 0 };
  if (setup === 'sasl') {
    await logins(new Checks('login'));
    Object.assign(options, { username: user, password });
  }
  const client = memjs.Client.create(address, options);
  const t = new Checks('administration');
  await t.call('flush', flush(client), [true]);
  await basics(new Checks('basics'), client);
  await crowd(new Checks('crowd'), client);
  for (const name of ['', 'settings', 'items', 'slabs']) {
    try {
      t.saw('stats ' + name, names(await report(client, name)));
    } catch (error) {
      t.saw('stats ' + name, String(error.message || error));
    }
  }
  await t.call('flush again', flush(client), [true]);
  await t.call('flushed', text(client.get('count')), null);
  client.close();
}

main();
