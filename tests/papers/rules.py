"""What is told of blocks beyond what they say themselves: who tries them, what has to be there."""

from __future__ import annotations

#: What is not tried here as a file or a command, and who does try it, as it is printed.
TRIED_BY: dict[tuple[str, str], str] = {
    ("docs/testing.md", "python"): "tests/recipes",
    ("docs/testing.md", "sh"): "tests/recipes",
    ("docs/contributing.md", "python"): "tests/test_papers.py",
    ("docs/contributing.md", "sh"): ".ci/run",
    ("docs/deploy.md", "sh"): "conformance/deploy/test_systemd.py",
    ("docs/front.md", "java"): "conformance/front/addresses.py",
    ("docs/capacity.md", "java"): "conformance/shards/clients.py",
}
#: Lines for a file that is printed elsewhere on the page.
LINES_OF_A_FILE = {("Variations", "haproxy"): "conformance/front/haproxy.py"}

#: What is there before a section of a paper begins: another section was done, maybe elsewhere.
SECRET = ("docs/pair.md", "On two hosts", 1)
PAIR = ("docs/pair.md", "On two hosts", 2)
#: By paper and section, or for all of a paper; how many blocks of what was done before.
GIVEN = {
    ("README.md", "A pair"): ("README.md", "One server", 1),
    ("docs/pair.md", "A witness"): PAIR,
    ("docs/operate.md", ""): PAIR,
    ("docs/couchbase.md", "Start"): SECRET,
}

#: Commands that need what no test has, and who tries what they do.
NEEDS = {
    "pip": "the internet: conformance/test_newcomer.py",
    "pipx": "the internet: conformance/test_newcomer.py",
    "git": "the internet",
    "docker": "a daemon",
    "etcdctl": "an etcd: conformance/pair/test_etcd.py",
    "kubectl": "a cluster",
    "redis-cli": "a Redis: tests/papers/test_migrate.py",
    "systemd-analyze": "systemd",
}

#: How a file of this language is read by its program; `{}` is its path.
READ_BY = {
    "haproxy": "haproxy -c -f {}",
    # Its exit code tells nothing, as it is always ended by a signal of its own.
    "keepalived": "! keepalived -t -f {} 2>&1 | grep {}",
    "yaml": "nutcracker -t -c {}",
    "yml": "promtool check config {}",
    "php": "php -l {}",
    "ini": """php -n -r 'exit(parse_ini_file("{}", false, INI_SCANNER_RAW) ? 0 : 1);'""",
    "ruby": "ruby -c {}",
    "sh": "bash -n {}",
    "python": "python {}",
    "xml": "python -c 'from xml.etree import ElementTree as E; E.parse(\"{}\")'",
    "toml": 'python -c \'import tomllib; tomllib.load(open("{}", "rb"))\'',
}
