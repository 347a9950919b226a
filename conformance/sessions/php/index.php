<?php
// The application of users.py on PHP's own sessions, which php-memcached stores.
//
// PHP tells its application little of what goes wrong with a session. SESSIONS_COPIED is the file of
// docs/sessions.md that makes errors of warnings; with MIND_WARNINGS=0 in the environment this is what a
// tutorial would have you write, which looks at nothing.
declare(strict_types=1);

$minding = getenv('MIND_WARNINGS') !== '0';
set_error_handler(fn (int $level, string $message): bool => true);

function answer(int $status, array $what): never {
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode($what);
    exit;
}

if ($minding) {
    eval('?>' . getenv('SESSIONS_COPIED'));
    set_exception_handler(function (Throwable $error): never {
        answer(503, ['error' => $error->getMessage()]);
    });
}

function start(): void {
    global $minding;
    if ($minding) {
        Session::start();
    } else {
        $_SESSION = [];
        session_start();
    }
}

function store(): void {
    global $minding;
    $minding ? Session::store() : session_write_close();
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
        $minding ? Session::rotate() : session_regenerate_id(true);
        $id = session_id();
        store();
        break;
    case '/logout':
        $id = session_id();
        $minding ? Session::end() : session_destroy();
        setcookie(session_name(), '', ['expires' => 1, 'path' => '/']);
        $n = 0;
        break;
    default:
        session_abort();
        answer(404, ['error' => "no $path"]);
}
answer(200, ['id' => $id, 'fresh' => $fresh, 'n' => $n, 'worker' => getmypid()]);
