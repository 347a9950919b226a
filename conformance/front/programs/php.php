<?php
// One client in PHP: the documented lines make $cache, which does what it is told by lines.
eval("?>" . getenv("LINES"));
echo "ready\n";
while (($line = fgets(STDIN)) !== false) {
    [$verb, $key, $value] = explode(" ", trim($line));
    if ($verb === "get") {
        $found = $cache->get($key);
        $code = $cache->getResultCode();
        $done = $code === Memcached::RES_SUCCESS ? "value $found" : null;
        $done = $code === Memcached::RES_NOTFOUND ? "none" : $done;
    } else {
        $verb === "set" ? $cache->set($key, $value) : $cache->delete($key);
        $code = $cache->getResultCode();
        $done = $code === Memcached::RES_SUCCESS || $code === Memcached::RES_NOTFOUND ? "done" : null;
    }
    echo $done ?? "error " . $cache->getResultMessage(), "\n";
}
