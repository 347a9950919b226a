"""What is told of blocks beyond what they say themselves: who tries them, what has to be there."""

from __future__ import annotations

from typing import Final, NamedTuple


class Elsewhere(NamedTuple):
    """Blocks that are not tried here, who does try them as they are printed, and why so."""

    blocks: int
    by: str
    reason: str


_PIP: Final = "pip fetches what it needs"
_PIECE: Final = "a piece of code for a place that only its test knows"
_JAVA: Final = "Java, with jars from Maven Central"

#: By paper, section and language.
ELSEWHERE: Final[dict[tuple[str, str, str], Elsewhere]] = {
    ("README.md", "Install", "sh"): Elsewhere(1, "conformance/test_newcomer.py", _PIP),
    ("README.md", "In tests", "python"): Elsewhere(1, "conformance/test_newcomer.py", _PIP),
    ("README.md", "In tests", "sh"): Elsewhere(1, "conformance/test_newcomer.py", _PIP),
    ("README.md", "Documentation", "sh"): Elsewhere(1, ".ci/run", "it runs all tests, and so this"),
    ("docs/capacity.md", "Ketama in the client", "java"): Elsewhere(
        1, "conformance/shards/page.py", _JAVA
    ),
    ("docs/contributing.md", "Set up", "sh"): Elsewhere(1, ".ci/run", _PIP),
    **{
        ("docs/contributing.md", section, "python"): Elsewhere(1, "tests/test_papers.py", _PIECE)
        for section in (
            "A text command",
            "A binary opcode",
            "A meta flag",
            "An option",
            "Somebody new who listens",
        )
    },
    ("docs/deploy.md", "systemd", "sh"): Elsewhere(
        1, "conformance/deploy/test_systemd.py", "a real systemd"
    ),
    ("docs/deploy.md", "Containers", "sh"): Elsewhere(
        2, "conformance/deploy/test_container.py", "an engine of containers, and images"
    ),
    ("docs/deploy.md", "Kubernetes", "sh"): Elsewhere(
        1, "conformance/deploy/test_kubernetes.py", "what kubectl talks to"
    ),
    ("docs/front.md", "Variations", "haproxy"): Elsewhere(
        2, "conformance/front/haproxy.py", "lines for a file that is printed before"
    ),
    ("docs/front.md", "Clients that know both nodes", "java"): Elsewhere(
        1, "conformance/front/haproxy.py", _JAVA
    ),
    **{
        ("docs/install.md", section, "sh"): Elsewhere(1, "conformance/test_newcomer.py", _PIP)
        for section in ("With pipx", "With venv", "For a host")
    },
    ("docs/monitoring.md", "Prometheus", "yml"): Elsewhere(
        1, "conformance/deploy/test_prometheus.py", "promtool, which is large"
    ),
    ("docs/testing.md", "A memcached for your tests", "sh"): Elsewhere(
        1, "conformance/test_newcomer.py", _PIP
    ),
    ("docs/testing-recipes.md", "GitHub Actions", "yaml"): Elsewhere(
        1, "tests/recipes/test_recipes.py", "a workflow is read by GitHub"
    ),
    ("docs/testing-recipes.md", "Systems and interpreters", "ini"): Elsewhere(
        1, "tests/recipes/test_surroundings.py", "a line of a file"
    ),
}
#: Papers whose examples in Python are run by tests/recipes, whatever their number.
RECIPES: Final = ("docs/testing.md", "docs/testing-recipes.md")

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

#: What is typed before a section that no page tells to type: others' servers.
STARTED: Final[dict[tuple[str, str], str]] = {
    ("docs/migrate.md", "Sessions from Redis"): """\
redis-server --daemonize yes --save '' --bind 0.0.0.0 --protected-mode no         # on redis-1
until redis-cli ping; do sleep 0.1; done                                         # on redis-1
redis-cli set PHPREDIS_SESSION:a 'user|s:5:"alice";' EX 1440                      # on redis-1
pymcd -u nobody -d                                                               # on cache-1
""",
    ("docs/pair.md", "An etcd as the witness"): """\
etcd --data-dir etcd >etcd.log 2>&1 &
until etcdctl endpoint health 2>etcdctl.log; do sleep 0.1; done
""",
    ("docs/testing-recipes.md", "A real memcached"): "memcached -u nobody -l 127.0.0.1 -d\n",
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
