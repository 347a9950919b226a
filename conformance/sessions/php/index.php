<?php
// The application of users.py on PHP's own sessions, which php-memcached stores.
//
// PHP tells its application little of what goes wrong with a session: session_write_close() and
// session_destroy() return true whatever became of them, and only a warning says more. Frameworks
// make errors of warnings; so does this. With MIND_WARNINGS=0 in the environment it is what a
// tutorial would have you write, which looks at nothing.
declare(strict_types=1);

$minding = getenv('MIND_WARNINGS') !== '0';
$warnings = [];
set_error_handler(function (int $level, string $message) use (&$warnings): bool {
    $warnings[] = $message;
    return true;
});

function answer(int $status, array $what): never {
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode($what);
    exit;
}

function fail(): never {
    global $warnings;
    // Nothing half-known is written at the end of the request.
    if (session_status() === PHP_SESSION_ACTIVE) {
        session_abort();
    }
    header_remove('Set-Cookie');
    answer(503, ['error' => implode(' | ', $warnings)]);
}

/**
 * Start the session that the browser has.
 *
 * What could not be read may look like what does not exist: libmemcached takes some ends of a
 * connection for a miss, above all one between taking the lock and reading, and PHP then begins an
 * empty session, which would be written over the real one. In strict mode any error at the look-up
 * leads to a new id. So who comes with an id and finds nothing is not believed at once.
 */
function start(): void {
    global $minding;
    $_SESSION = [];
    $asked = $_COOKIE[session_name()] ?? '';
    if (!session_start() && $minding) {
        fail();
    }
    if ($minding && $asked !== '' && $_SESSION === [] && !is_gone($asked)) {
        fail();
    }
}

/**
 * Say whether the session surely does not exist, or is empty.
 *
 * Twice on one connection: after a miss that was none the next command tells the error.
 */
function is_gone(string $id): bool {
    global $warnings;
    $memcached = new Memcached();
    $memcached->addServers(array_map(
        fn (string $server) => explode(':', $server),
        explode(',', ini_get('session.save_path')),
    ));
    if (ini_get('memcached.sess_sasl_username')) {
        $memcached->setOption(Memcached::OPT_BINARY_PROTOCOL, true);
        $memcached->setSaslAuthData(
            ini_get('memcached.sess_sasl_username'),
            ini_get('memcached.sess_sasl_password'),
        );
    }
    foreach ([1, 2] as $_) {
        if ($memcached->get(ini_get('memcached.sess_prefix') . $id) === '') {
            return true; // ended, only not deleted
        }
        if ($memcached->getResultCode() !== Memcached::RES_NOTFOUND) {
            $warnings[] = 'nothing found; second look: ' . $memcached->getResultMessage();
            return false;
        }
    }
    return true;
}

/** Write the session; only the warning says that it could not be written. */
function store(): void {
    global $minding, $warnings;
    session_write_close();
    if ($minding && preg_grep('/Failed to write session/', $warnings)) {
        fail();
    }
}

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/read' && !isset($_COOKIE[session_name()])) {
    answer(200, ['id' => '', 'fresh' => true, 'n' => 0, 'worker' => getmypid()]);
}
start();
$fresh = !isset($_SESSION['n']);
$n = $_SESSION['n'] ?? 0;
switch ($path) {
    case '/read':
        $id = session_id();
        if ($fresh) {
            session_abort();
            header_remove('Set-Cookie');
        } else {
            store();
        }
        break;
    case '/count':
        usleep(1000 * (int) ($_GET['wait_ms'] ?? 0));
        $_SESSION['n'] = ++$n;
        $id = session_id();
        store();
        break;
    case '/put':
        $_SESSION['n'] = $n;
        $_SESSION['data'] = base64_encode(random_bytes(intdiv(3 * (int) $_GET['bytes'], 4)));
        $id = session_id();
        store();
        break;
    case '/rotate':
        $_SESSION['n'] = $n;
        if (!session_regenerate_id(true) && $minding) {
            fail();
        }
        $id = session_id();
        store();
        break;
    case '/logout':
        $id = session_id();
        if ($minding) {
            // What deletes does not tell whether it could; what writes does.
            $_SESSION = [];
            store();
            session_start() || fail();
        }
        session_destroy();
        setcookie(session_name(), '', ['expires' => 1, 'path' => '/']);
        $n = 0;
        break;
    default:
        session_abort();
        answer(404, ['error' => "no $path"]);
}
answer(200, ['id' => $id, 'fresh' => $fresh, 'n' => $n, 'worker' => getmypid()]);
