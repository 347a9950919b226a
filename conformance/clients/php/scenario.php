<?php
// php-memcached: text and binary, delayed fetches, sessions with locking, SASL.

$host = getenv('MEMCACHED_HOST');
$port = (int) getenv('MEMCACHED_PORT');
$setup = getenv('MEMCACHED_SETUP');
$user = getenv('MEMCACHED_USER');
$password = getenv('MEMCACHED_PASSWORD');
$prefix = '';
const FAR_S = 100000;
const SIZES = [0, 1, 4095, 70000, 600000, 1048000];
const TOO_LARGE_BYTES = 2000000;

function brief($value): string {
    $text = is_string($value) ? "'$value'" : json_encode($value, JSON_PARTIAL_OUTPUT_ON_ERROR);
    $text = str_replace(["\r", "\n"], ['\r', '\n'], $text);
    return strlen($text) <= 200 ? $text : substr($text, 0, 100) . '... ' . strlen($text);
}

function equal(string $name, $got, $expected): void {
    global $prefix;
    if ($got === $expected) {
        echo "ok $prefix$name\n";
    } else {
        echo "not ok $prefix$name: ", brief($got), ', not ', brief($expected), "\n";
    }
}

function saw(string $name, $what): void {
    global $prefix;
    echo "saw $prefix$name: ", brief($what), "\n";
}

// Bytes which do not compress, the same for the same size.
function payload(int $size): string {
    mt_srand($size);
    $parts = [];
    for ($i = 0; $i * 4 < $size; $i++) {
        $parts[] = pack('N', mt_rand() * 2 + ($i & 1));
    }
    return substr(implode('', $parts), 0, $size);
}

function client(bool $binary, array $options = []): Memcached {
    global $host, $port, $setup, $user, $password;
    $m = new Memcached();
    $m->setOption(Memcached::OPT_BINARY_PROTOCOL, $binary);
    $m->setOption(Memcached::OPT_TCP_NODELAY, true);
    foreach ($options as $option => $value) {
        $m->setOption($option, $value);
    }
    if ($setup === 'sasl') {
        $m->setSaslAuthData($user, $password);
    }
    $m->addServer($host, $port);
    return $m;
}

function basics(Memcached $m, bool $binary): void {
    equal('flush', $m->flush(), true);
    equal('get none', $m->get('a'), false);
    equal('result of get none', $m->getResultCode(), Memcached::RES_NOTFOUND);
    equal('set', $m->set('a', 'one'), true);
    equal('get', $m->get('a'), 'one');
    equal('add there', $m->add('a', 'two'), false);
    saw('result of add there', $m->getResultMessage());
    equal('add', $m->add('b', 'two'), true);
    equal('replace', $m->replace('a', 'three'), true);
    equal('replace none', $m->replace('none', 'three'), false);
    saw('result of replace none', $m->getResultMessage());
    $m->setOption(Memcached::OPT_COMPRESSION, false);
    equal('append', $m->append('a', '4'), true);
    equal('prepend', $m->prepend('a', '5'), true);
    equal('append none', $m->append('none', '4'), false);
    equal('joined', $m->get('a'), '5three4');
    $m->setOption(Memcached::OPT_COMPRESSION, true);
    equal('set number', $m->set('n', 5), true);
    equal('increment', $m->increment('n', 10), 15);
    equal('decrement', $m->decrement('n', 3), 12);
    equal('decrement below zero', $m->decrement('n', 30), 0);
    equal('increment none', $m->increment('none'), false);
    equal('result of increment none', $m->getResultCode(), Memcached::RES_NOTFOUND);
    if ($binary) {
        equal('increment makes', $m->increment('n2', 1, 7, FAR_S), 7);
        equal('increment made', $m->increment('n2', 1, 7, FAR_S), 8);
        equal('decrement makes', $m->decrement('n3', 1, 9), 9);
    } else {
        equal('increment text', @$m->increment('a'), false);
        saw('result of increment text', $m->getResultMessage());
    }
    equal('usable', $m->get('a'), '5three4');
    equal('touch', $m->touch('b', FAR_S), true);
    equal('touch none', $m->touch('none', FAR_S), false);
    equal('born expired', $m->set('gone', 'x', 2592001), true);
    equal('expired', $m->get('gone'), false);
    if (!$binary) {
        equal('negative expiry', $m->set('gone', 'x', -1), true);
        equal('expired, too', $m->get('gone'), false);
    }
    equal('delete', $m->delete('a'), true);
    equal('delete none', $m->delete('a'), false);
    $many = [];
    for ($i = 0; $i < 500; $i++) {
        $many["m$i"] = $i % 3 ? "value $i" : [$i, 1.5, null, true];
    }
    equal('setMulti', $m->setMulti($many, FAR_S), true);
    equal('getMulti', $m->getMulti(array_keys($many), Memcached::GET_PRESERVE_ORDER), $many);
    equal('getMulti of nothing there', $m->getMulti(['x1', 'x2']), []);
    equal('deleteMulti', $m->deleteMulti(['m1', 'x1']), ['m1' => true, 'x1' => Memcached::RES_NOTFOUND]);
    foreach (SIZES as $size) {
        $value = payload($size);
        equal("set $size bytes", $m->set('v', $value), true);
        equal("get $size bytes", $m->get('v') === $value, true);
    }
    $m->set('large', 'old');
    equal('too large', $m->set('large', payload(TOO_LARGE_BYTES)), false);
    saw('result of too large', $m->getResultMessage());
    equal('old value gone', $m->get('large'), false);
    equal('compressed', $m->set('z', str_repeat('x', TOO_LARGE_BYTES)), true);
    equal('decompressed', strlen($m->get('z')), TOO_LARGE_BYTES);
    foreach ([1, -7, 2.5, true, false, null, 'text', "\0\r\n", [1, ['a' => 'ü']]] as $i => $value) {
        $m->set('type', $value);
        equal("type $i", $m->get('type'), $value);
        equal("type $i is there", $m->getResultCode(), Memcached::RES_SUCCESS);
    }
    $key = str_repeat('k', 250);
    equal('longest key', [$m->set($key, 1), $m->get($key)], [true, 1]);
    equal('long key', $m->set($key . 'k', 1), false);
    saw('result of long key', $m->getResultMessage());
}

function cas(Memcached $m, bool $binary): void {
    $m->set('c', 'one');
    $found = $m->get('c', null, Memcached::GET_EXTENDED);
    equal('get with cas', $found['value'], 'one');
    equal('cas', $m->cas($found['cas'], 'c', 'two'), true);
    equal('cas too late', $m->cas($found['cas'], 'c', 'three'), false);
    equal('result of cas too late', $m->getResultCode(), Memcached::RES_DATA_EXISTS);
    equal('cas none', $m->cas($found['cas'], 'none', 'three'), false);
    equal('result of cas none', $m->getResultCode(), Memcached::RES_NOTFOUND);
    equal('after cas', $m->get('c'), 'two');
    $m->setMulti(['d' => 1, 'e' => 2]);
    $all = $m->getMulti(['c', 'd', 'e'], Memcached::GET_EXTENDED);
    $uniques = array_unique(array_map(fn ($each) => $each['cas'], $all));
    equal('getMulti with cas', count($uniques), 3);
    $made = $m->get('by callback', function ($m, $key, &$value, &$expiry) {
        $value = 'made';
        return true;
    });
    if ($binary) {
        equal('read through', [$made, $m->get('by callback')], ['made', 'made']);
    } else {
        saw('read through', $made);
    }
    equal('getDelayed', $m->getDelayed(['c', 'd', 'e', 'none'], true), true);
    $values = [];
    while ($row = $m->fetch()) {
        $values[$row['key']] = $row['value'];
    }
    ksort($values);
    equal('fetch', $values, ['c' => 'two', 'd' => 1, 'e' => 2]);
    $seen = [];
    $m->getDelayed(['c', 'd'], false, function ($m, $row) use (&$seen) {
        $seen[] = $row['key'];
    });
    sort($seen);
    equal('delayed callback', $seen, ['c', 'd']);
    equal('by key of server', [$m->setByKey('s', 'f', 1), $m->getByKey('s', 'f')], [true, 1]);
    equal('delete by key', $m->deleteByKey('s', 'f'), true);
}

function administration(Memcached $m, bool $binary): void {
    saw('version', array_values($m->getVersion()));
    foreach ([null, 'settings', 'items', 'slabs'] as $report) {
        $rows = $report === null ? $m->getStats() : $m->getStats($report);
        $keys = is_array($rows) ? array_keys((array) reset($rows)) : $rows;
        // Which class has items depends on when expired ones are looked at.
        $keys = array_unique(preg_replace('/\d+:/', '', $keys));
        sort($keys);
        saw('stats ' . $report, implode(' ', $keys));
    }
    equal('delayed flush', $m->flush(1000), true);
    equal('not yet', $m->get('d'), 1);
    equal('flush', $m->flush(), true);
    equal('flushed', $m->get('d'), false);
    equal('quit', $m->quit(), true);
    equal('connects again', $m->set('d', 1), true);
}

// One PHP program per request, as a web server has it.
function request(string $code, array $settings): string {
    global $host, $port, $setup, $user, $password;
    $settings += [
        'session.save_handler' => 'memcached',
        'session.save_path' => "$host:$port",
        'session.use_cookies' => '0',
        'session.cache_limiter' => '',
        'memcached.sess_lock_wait_min' => '1',
        'memcached.sess_lock_wait_max' => '1',
        'memcached.sess_lock_retries' => '3',
    ];
    if ($setup === 'sasl') {
        $settings += [
            'memcached.sess_sasl_username' => $user,
            'memcached.sess_sasl_password' => $password,
        ];
    }
    $command = escapeshellarg(PHP_BINARY);
    foreach ($settings as $name => $value) {
        $command .= ' -d ' . escapeshellarg("$name=$value");
    }
    return trim((string) shell_exec("$command -r " . escapeshellarg("ob_start(); $code") . ' 2>&1'));
}

function sessions(bool $binary): void {
    $m = client($binary);
    $m->flush();
    $settings = ['memcached.sess_binary_protocol' => $binary ? '1' : '0'];
    $id = 'abcdefghijklmnopqrstuvwxyz';
    $start = "session_id('$id'); echo json_encode(session_start()), ' ';";
    $write = $start . '$_SESSION["n"] = ($_SESSION["n"] ?? 0) + 1; echo $_SESSION["n"];';
    equal('first request', request($write, $settings), 'true 1');
    equal('second request', request($write, $settings), 'true 2');
    equal('stored', $m->get("memc.sess.key.$id"), 'n|i:2;');
    equal('lock released', $m->get("memc.sess.key.lock.$id"), false);
    // Somebody else has the session now.
    equal('lock', $m->add("memc.sess.key.lock.$id", '1', FAR_S), true);
    $locked = request("echo json_encode(@session_id('$id')), json_encode(@session_start());", $settings);
    equal('locked out', $locked, '""false');
    equal('unlock', $m->delete("memc.sess.key.lock.$id"), true);
    equal('third request', request($write, $settings), 'true 3');
    $inside = $start . '$m = new Memcached(); $m->addServer(' . var_export(getenv('MEMCACHED_HOST'), true)
        . ', ' . (int) getenv('MEMCACHED_PORT') . ');'
        . ($binary ? '$m->setOption(Memcached::OPT_BINARY_PROTOCOL, true);' : '')
        . (getenv('MEMCACHED_SETUP') === 'sasl'
            ? '$m->setSaslAuthData(getenv("MEMCACHED_USER"), getenv("MEMCACHED_PASSWORD"));' : '')
        . 'echo json_encode($m->add("memc.sess.key.lock.' . $id . '", "1"));'
        . 'session_write_close();'
        . 'echo json_encode($m->add("memc.sess.key.lock.' . $id . '", "1"));'
        . '$m->delete("memc.sess.key.lock.' . $id . '");';
    equal('lock is held while open', request($inside, $settings), 'true falsetrue');
    $unlocked = $settings + ['memcached.sess_locking' => '0'];
    equal('without locking', request($write, $unlocked), 'true 4');
    $lazy = $settings + ['session.lazy_write' => '1'];
    equal('lazy write', request($start . 'echo $_SESSION["n"];', $lazy), 'true 4');
    $renew = $start . 'echo json_encode(session_regenerate_id(true)), " ", $_SESSION["n"];';
    equal('new id', request($renew, $settings), 'true true 4');
    equal('old id gone', $m->get("memc.sess.key.$id"), false);
    equal('starts anew', request($write, $settings), 'true 1');
    $large = $start . '$_SESSION["v"] = str_repeat("x", 500000); echo "set";';
    equal('large session', request($large, $settings), 'true set');
    equal('large session read', request($start . 'echo strlen($_SESSION["v"]);', $settings), 'true 500000');
    equal('destroy', request($start . 'echo json_encode(session_destroy());', $settings), 'true true');
    equal('destroyed', $m->get("memc.sess.key.$id"), false);
    $persistent = $settings + ['memcached.sess_persistent' => '1'];
    equal('persistent connection', request($write, $persistent), 'true 1');
}

function logins(): void {
    global $host, $port, $user, $password;
    foreach ([['wrong password', $user, $password . 'x'], ['unknown user', 'nobody', $password]] as [$name, $u, $p]) {
        $m = new Memcached();
        $m->setOption(Memcached::OPT_BINARY_PROTOCOL, true);
        $m->setSaslAuthData($u, $p);
        $m->addServer($host, $port);
        equal($name, $m->set('a', 1), false);
        saw("result of $name", $m->getResultMessage());
    }
    $m = new Memcached();
    $m->setOption(Memcached::OPT_BINARY_PROTOCOL, true);
    $m->addServer($host, $port);
    equal('no login', $m->set('a', 1), false);
    saw('result of no login', $m->getResultMessage());
}

// Again and again, until it is what is expected, or was tried often enough.
function attempted(callable $operation, $expected) {
    for ($i = 0; $i < 30; $i++) {
        $got = $operation();
        if ($got === $expected) {
            break;
        }
        sleep(1);
    }
    return $got;
}

// Values that are too large: a client must go on afterwards as if nothing were.
function narrow(Memcached $m): void {
    foreach ([1100000, 2000000, 8000000] as $size) {
        $m->set('large', 'old');
        saw("set $size", $m->set('large', payload($size)));
        saw("result of $size", $m->getResultMessage());
        saw("get after $size", $m->get('large'));
        foreach ([0, 1, 2] as $number) {
            $key = "$size-$number";
            equal("set $number after $size", attempted(fn() => $m->set($key, 'small'), true), true);
            equal("get $number after $size", attempted(fn() => $m->get($key), 'small'), 'small');
        }
    }
}

if ($setup === 'sasl') {
    $prefix = 'login: ';
    logins();
}
if ($setup === 'narrow') {
    foreach ([false, true] as $binary) {
        foreach (['' => [], '-noblock' => [Memcached::OPT_NO_BLOCK => true]] as $more => $options) {
            $prefix = ($binary ? 'binary' : 'text') . "$more: ";
            narrow(client($binary, $options + [Memcached::OPT_COMPRESSION => false]));
        }
    }
    exit(0);
}
foreach ($setup === 'sasl' ? [true] : [false, true] as $binary) {
    $name = $binary ? 'binary' : 'text';
    foreach ([
        '' => [],
        '-ketama' => [Memcached::OPT_LIBKETAMA_COMPATIBLE => true, Memcached::OPT_PREFIX_KEY => 'p:'],
        '-noblock' => [Memcached::OPT_NO_BLOCK => true],
    ] as $more => $options) {
        $prefix = "$name$more: ";
        $m = client($binary, $options);
        $long = $more === '-ketama';
        if (!$long) {
            basics($m, $binary);
        }
        cas($m, $binary);
        administration($m, $binary);
    }
    $prefix = "$name-igbinary: ";
    $m = client($binary, [Memcached::OPT_SERIALIZER => Memcached::SERIALIZER_IGBINARY]);
    equal('packed', [$m->set('o', ['a' => [1, 'ü']]), $m->get('o')], [true, ['a' => [1, 'ü']]]);
    $prefix = "$name-sessions: ";
    sessions($binary);
}
