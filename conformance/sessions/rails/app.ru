# frozen_string_literal: true

# The application of users.py on the session stores that dalli gives to Rack and Rails.
#
# SESSIONS_STORE says which: `rack` (Rack::Session::Dalli), `rails` (Rails' :mem_cache_store) or
# `cache` (Rails' :cache_store over ActiveSupport's MemCacheStore). All of them answer an error of
# memcached as if there were no session, and drop what they could not write; the request is then
# answered with 200 all the same. With SESSIONS_LOUD=1 they let the error through, and it is answered
# with 500. DALLI_OPTIONS are further options of dalli, as JSON.

require 'json'
require 'rack'
require 'dalli'
require 'rack/session/dalli'

SERVERS = ENV.fetch('SESSIONS_ADDRESSES').split(',')
LIFETIME_S = Integer(ENV.fetch('SESSIONS_LIFETIME_S'))
OPTIONS = JSON.parse(ENV.fetch('DALLI_OPTIONS', '{}'), symbolize_names: true)
STORE = ENV.fetch('SESSIONS_STORE')
LOUD = ENV['SESSIONS_LOUD'] == '1'
COOKIE = '_session_id'
THREADS = 8

Dalli.logger.level = Logger::ERROR

# LoudSessions and LoudCache, as docs/sessions.md has them.
eval(ENV.fetch('SESSIONS_COPIED')) # rubocop:disable Security/Eval

# What the routes do. It stands within Rack's or Rails' session middleware.
class Routes
  def call(env)
    request = Rack::Request.new(env)
    session = env['rack.session']
    known = request.cookies.key?(COOKIE)
    fresh = !known || !session.key?('n')
    n = known ? session['n'].to_i : 0
    case request.path
    when '/read'
      session.options[:skip] = true if fresh
    when '/count'
      sleep(request.params['wait_ms'].to_i / 1000.0)
      session['n'] = n += 1
    when '/put'
      session['n'] = n
      session['data'] = Random.bytes(request.params['bytes'].to_i)
    when '/rotate'
      session['n'] = n
      session.options[:renew] = true
    when '/logout'
      session.destroy
      session.options[:drop] = true
      n = 0
    else
      return [404, { 'Content-Type' => 'text/plain' }, ['nothing here']]
    end
    [200, { 'Content-Type' => 'application/json' }, [JSON.generate(fresh: fresh, n: n)]]
  end
end

# Outside of the session middleware: only there is the new id known after `rotate`.
class TellsId
  def initialize(app)
    @app = app
  end

  def call(env)
    status, headers, body = @app.call(env)
    return [status, headers, body] unless status == 200

    text = +''
    body.each { |part| text << part }
    body.close if body.respond_to?(:close)
    headers = headers.to_h.reject { |name, _| name.casecmp?('content-length') }
    set = headers['Set-Cookie'].to_s[/#{COOKIE}=([^;]+)/, 1]
    id = set || Rack::Request.new(env).cookies[COOKIE].to_s
    [status, headers, [JSON.generate(JSON.parse(text).merge(id: id, worker: Process.pid))]]
  end
end

use TellsId
if STORE == 'rack'
  sessions = Class.new(Rack::Session::Dalli) { include LoudSessions if LOUD }
  use sessions, memcache_server: SERVERS, key: COOKIE, expire_after: LIFETIME_S,
                pool_size: THREADS, **OPTIONS
  run Routes.new
else
  require 'action_controller/railtie'
  require 'active_support/cache/mem_cache_store'

  # As small as Rails can be, with its own middleware.
  class Application < Rails::Application
    config.root = Dir.pwd
    config.eager_load = false
    config.secret_key_base = 'of no use to anybody'
    config.logger = Logger.new($stderr, level: Logger::ERROR)
    config.consider_all_requests_local = true
    config.hosts.clear
    if STORE == 'rails'
      require 'action_dispatch/middleware/session/mem_cache_store'
      ActionDispatch::Session::MemCacheStore.prepend(LoudSessions) if LOUD
      config.session_store :mem_cache_store, memcache_server: SERVERS, key: COOKIE,
                                             expire_after: LIFETIME_S, pool_size: THREADS, **OPTIONS
    else
      ActiveSupport::Cache::MemCacheStore.prepend(LoudCache) if LOUD
      cache = ActiveSupport::Cache::MemCacheStore.new(*SERVERS, pool_size: THREADS, **OPTIONS)
      config.session_store :cache_store, cache: cache, key: COOKIE, expire_after: LIFETIME_S
    end
    routes.append { match '*path', to: Routes.new, via: :get }
  end
  Application.initialize!
  run Application
end
