# frozen_string_literal: true

# dalli: binary and, from version 3.2 on, meta; SASL and TLS.

require 'dalli'
require 'logger'
require 'openssl'

Dalli.logger = Logger.new(File::NULL)
$stdout.sync = true

ADDRESS = "#{ENV.fetch('MEMCACHED_HOST')}:#{ENV.fetch('MEMCACHED_PORT')}"
SETUP = ENV.fetch('MEMCACHED_SETUP')
USER = ENV.fetch('MEMCACHED_USER')
PASSWORD = ENV.fetch('MEMCACHED_PASSWORD')
FAR_S = 100_000
SIZES = [0, 1, 4095, 70_000, 600_000, 1_048_000].freeze
TOO_LARGE_BYTES = 2_000_000

# dalli 3.0 cannot read several keys over TLS.
MULTI_GET_BROKEN = SETUP == 'tls' && Dalli::VERSION.start_with?('3.0.')

# Bytes that do not compress, the same for the same size.
def payload(size)
  Random.new(size).bytes(size)
end

def brief(value)
  text = value.inspect
  text.length <= 200 ? text : "#{text[0, 100]}... (#{text.length} characters)"
end

# Prints how each operation went.
class Checks
  def initialize(prefix)
    @prefix = "#{prefix}: "
  end

  def equal(name, expected)
    got = yield
    if got == expected
      puts "ok #{@prefix}#{name}"
    else
      puts "not ok #{@prefix}#{name}: #{brief(got)}, not #{brief(expected)}"
    end
  rescue StandardError => e
    puts "not ok #{@prefix}#{name}: #{e.class}: #{brief(e.message)}"
  end

  def fails(name, kind)
    got = yield
    puts "not ok #{@prefix}#{name}: #{brief(got)}, no #{kind}"
  rescue kind => e
    puts "ok #{@prefix}#{name}"
    puts "saw #{@prefix}#{name}: #{e.class}: #{brief(e.message)}"
  end

  def saw(name)
    puts "saw #{@prefix}#{name}: #{brief(yield)}"
  rescue StandardError => e
    puts "saw #{@prefix}#{name}: #{e.class}: #{brief(e.message)}"
  end
end

def client(**more)
  options = { socket_timeout: 20, socket_max_failures: 0 }
  options.update(username: USER, password: PASSWORD) if SETUP == 'sasl'
  if SETUP == 'tls'
    context = OpenSSL::SSL::SSLContext.new
    context.ca_file = ENV.fetch('MEMCACHED_CA')
    context.ssl_version = :SSLv23
    context.verify_mode = OpenSSL::SSL::VERIFY_PEER
    options[:ssl_context] = context
  end
  Dalli::Client.new(ADDRESS, options.merge(more))
end

def basics(t, m)
  t.equal('flush', [true]) { m.flush }
  t.equal('get none', nil) { m.get('a') }
  t.equal('set', true) { m.set('a', 'one') ? true : false }
  t.equal('get', 'one') { m.get('a') }
  t.equal('add there', false) { m.add('a', 'two') }
  t.equal('add', true) { m.add('b', 'two') ? true : false }
  t.equal('replace', true) { m.replace('a', 'three', FAR_S) ? true : false }
  # What a refusal returns depends on dalli's version.
  t.saw('replace none') { m.replace('none', 'three') }
  t.equal('set raw', true) { m.set('r', '3', FAR_S, raw: true) ? true : false }
  t.equal('append', true) { m.append('r', '4') ? true : false }
  t.equal('prepend', true) { m.prepend('r', '5') ? true : false }
  t.saw('append none') { m.append('none', '4') }
  t.equal('joined', '534') { m.get('r', raw: true) }
  t.equal('incr', 541) { m.incr('r', 7) }
  t.equal('decr', 501) { m.decr('r', 40) }
  t.equal('decr below zero', 0) { m.decr('r', 4000) }
  t.equal('incr none', nil) { m.incr('none', 1) }
  t.equal('incr makes', 10) { m.incr('n', 1, FAR_S, 10) }
  t.equal('incr made', 11) { m.incr('n', 1, FAR_S, 10) }
  t.equal('decr makes', 5) { m.decr('n2', 1, FAR_S, 5) }
  t.equal('touch', true) { m.touch('b', FAR_S) ? true : false }
  t.saw('touch none') { m.touch('none', FAR_S) }
  t.equal('gat', 'two') { m.gat('b', FAR_S) }
  t.equal('gat none', nil) { m.gat('none', FAR_S) }
  t.equal('born expired', true) { m.set('gone', 'x', 2_592_001) ? true : false }
  t.saw('expired') { m.get('gone') }
  t.equal('fetch', 'made') { m.fetch('f') { 'made' } }
  t.equal('fetch again', 'made') { m.fetch('f') { 'made again' } }
  t.equal('nil', nil) { m.set('nil', nil) && m.get('nil') }
  t.equal('fetch nil', nil) { client(cache_nils: true).fetch('nil') { 'not nil' } }
  t.equal('delete', true) { m.delete('a') ? true : false }
  t.saw('delete none') { m.delete('a') }
  SIZES.each do |size|
    value = payload(size)
    t.equal("set #{size} bytes", true) { m.set('v', value, FAR_S, raw: true) ? true : false }
    t.equal("get #{size} bytes", true) { m.get('v', raw: true) == value }
  end
  thing = { 'a' => [1, 2.5, nil], 'b' => 'ü' }
  t.equal('thing', thing) { m.set('thing', thing) && m.get('thing') }
  t.equal('wide key', 1) { m.set('schlüssel', 1) && m.get('schlüssel') }
  t.equal('key with blanks', 1) { m.set('a b', 1) && m.get('a b') }
  t.equal('longest key', 1) { m.set('k' * 250, 1) && m.get('k' * 250) }
  t.equal('longer key', 1) { m.set('k' * 400, 1) && m.get('k' * 400) }
  m.set('text', 'abc', FAR_S, raw: true)
  t.fails('incr text', Dalli::DalliError) { m.incr('text', 1) }
  t.equal('usable', 'abc') { m.get('text', raw: true) }
  m.set('large', 'old')
  t.fails('too large', Dalli::ValueOverMaxSize) do
    client(value_max_bytes: TOO_LARGE_BYTES).set('large', payload(TOO_LARGE_BYTES * 2))
  end
  t.saw('too large for the server') do
    client(value_max_bytes: TOO_LARGE_BYTES * 2).set('large', payload(TOO_LARGE_BYTES), FAR_S, raw: true)
  end
  t.equal('old value gone', nil) { m.get('large') }
end

def cas(t, m)
  m.set('c', 'one')
  t.equal('cas', true) { m.cas('c') { |value| "#{value} two" } ? true : false }
  t.equal('after cas', 'one two') { m.get('c') }
  t.equal('cas too late', false) do
    m.cas('c') do |_|
      client.set('c', 'other')
      'late'
    end
  end
  t.equal('after late cas', 'other') { m.get('c') }
  t.equal('cas none', nil) { m.cas('none') { 'x' } }
  t.equal('cas! none', true) { m.cas!('none too') { |_| 'x' } ? true : false }
  value, unique = m.get_cas('c')
  t.equal('get_cas', 'other') { value }
  t.equal('set_cas', true) { m.set_cas('c', 'three', unique) ? true : false }
  t.equal('set_cas too late', false) { m.set_cas('c', 'four', unique) }
  t.equal('replace_cas too late', false) { m.replace_cas('c', 'four', unique) }
  t.equal('delete_cas too late', false) { m.delete_cas('c', unique) }
  t.equal('delete_cas', true) { m.delete_cas('c', m.get_cas('c')[1]) ? true : false }
  m.set('d', 1)
  m.set('e', 2)
  return if MULTI_GET_BROKEN

  t.equal('get_multi_cas', { 'd' => 1, 'e' => 2 }) { m.get_multi_cas('d', 'e').transform_values(&:first) }
end

def bulk(t, m)
  keys = (0...500).map { |i| "m#{i}" }
  m.multi { keys.each { |key| m.set(key, key, FAR_S) } }
  unless MULTI_GET_BROKEN
    t.equal('get_multi', keys.to_h { |key| [key, key] }) { m.get_multi(keys + ['none']) }
  end
  m.multi do
    300.times { |i| m.set("q#{i}", i.to_s, FAR_S, raw: true) }
    m.add('q0', 'x')
    m.delete('q2')
    m.replace('q5', 'r', FAR_S, raw: true)
  end
  expected = { 'q0' => '0', 'q5' => 'r', 'q9' => '9' }
  t.equal('quiet', expected) do
    %w[q0 q2 q5 q9].to_h { |key| [key, m.get(key, raw: true)] }.compact
  end
  threads = Array.new(8) { Thread.new { 25.times { m.incr('count', 1, FAR_S, 1) } } }
  threads.each(&:join)
  t.equal('counted by threads', 200) { m.get('count', raw: true).to_i }
end

def administration(t, m)
  t.saw('version') { m.version.values }
  ['', :settings, :items, :slabs].each do |report|
    t.saw("stats #{report}") do
      names = m.stats(report == '' ? nil : report).values.first.keys
      # Without class numbers, and without what later versions have of TLS.
      names.map { |each| each.gsub(/\d+:/, '') }.uniq.sort - ['ssl_proto_errors']
    end
  end
  t.equal('alive', nil) { m.alive! && nil }
  t.equal('flush', [true]) { m.flush }
  t.equal('flushed', nil) { m.get('m9') }
end

if SETUP == 'sasl'
  t = Checks.new('login')
  { 'wrong password' => [USER, "#{PASSWORD}x"], 'unknown user' => ['nobody', PASSWORD] }.each do |name, (user, word)|
    t.fails(name, StandardError) { client(username: user, password: word).set('a', 1) }
  end
  t.fails('no login', StandardError) { client(username: nil, password: nil).set('a', 1) }
end

# Again and again, until it is what is expected, or was tried often enough.
def attempted(expected)
  got = nil
  30.times do |number|
    sleep(1) if number.positive?
    got = begin
      yield
    rescue StandardError => e
      e
    end
    break if got == expected
  end
  got
end

# Values that are too large: a client must go on afterwards as if nothing were.
def narrow(t, m)
  [1_100_000, 2_000_000, 8_000_000].each do |size|
    m.set('large', 'old', FAR_S, raw: true)
    t.saw("set #{size}") { m.set('large', payload(size), FAR_S, raw: true) }
    t.saw("get after #{size}") { m.get('large', raw: true) }
    3.times do |number|
      key = "#{size}-#{number}"
      t.equal("set #{number} after #{size}", true) do
        attempted(true) { m.set(key, 'small', FAR_S, raw: true) ? true : false }
      end
      t.equal("get #{number} after #{size}", 'small') do
        attempted('small') { m.get(key, raw: true) }
      end
    end
  end
end

META = Gem::Version.new(Dalli::VERSION) >= Gem::Version.new('3.2.0') && SETUP != 'sasl'
(META ? %i[binary meta] : %i[binary]).each do |protocol|
  options = META ? { protocol: protocol } : {}
  # It has a limit of its own, of 1 MB.
  m = client(**(SETUP == 'narrow' ? options.merge(value_max_bytes: 100_000_000) : options))
  if SETUP == 'narrow'
    narrow(Checks.new(protocol), m)
    next
  end
  basics(Checks.new(protocol), m)
  cas(Checks.new("#{protocol}-cas"), m)
  bulk(Checks.new("#{protocol}-bulk"), m)
  administration(Checks.new("#{protocol}-administration"), m)
  m.close
  t = Checks.new("#{protocol}-compressed")
  m = client(compress: true, namespace: 'p', **options)
  t.equal('set', true) { m.set('z', 'x' * TOO_LARGE_BYTES) ? true : false }
  t.equal('get', TOO_LARGE_BYTES) { m.get('z').length }
  m.close
end
