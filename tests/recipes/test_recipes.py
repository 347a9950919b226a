"""Each example of testing.md and testing-recipes.md runs as its reader runs it, in a process."""

from __future__ import annotations

import re

import pytest

from pymcd.testing import MemcachedServer

from ..interpreters import needs
from .document import PAGES, TEST_FILE, Recipe, recipes, titles
from .running import RUN_TIMEOUT_S, counts, run_django, run_pytest

RECIPES = recipes()

#: What the pages must have, so that no recipe goes missing by a mistake in the markup.
EXPECTED = {
    "A memcached for your tests",
    "Fixtures",
    "What was asked",
    "Django's own runner",
    "FastAPI under asyncio",
    "Celery",
    "aiocache",
    "dogpile.cache",
    "freezegun",
    "time-machine",
    "Without pytest",
    "Looking inside",
    "pymemcache",
    "pylibmc",
    "Django",
    "aiomcache and asyncio",
    "Flask sessions",
    "Expiry",
    "Retries and faults",
    "Fail-over",
    "hypothesis",
    "pytest-xdist",
    "trio",
    "gevent",
    "Threads",
    "Forked children",
    "Logins and Unix sockets",
}

#: What a recipe is run with.
ARGUMENTS = {
    "pytest-xdist": ["-n", "2"],
    # It reads the modules of a checkout first, which takes time that it holds against the test.
    "hypothesis": ["-p", "hypothesispytest", "--hypothesis-profile=ci"],
    "FastAPI under asyncio": ["-p", "anyio"],
}


@pytest.mark.slow
@pytest.mark.timeout(RUN_TIMEOUT_S)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_recipe(recipe: Recipe, tmp_path):
    if missing := recipe.missing():
        pytest.skip(needs(*missing))
    recipe.write(tmp_path)
    if recipe.title == "Django's own runner":
        assert "Ran 2 tests" in run_django(tmp_path)
        return
    said = run_pytest(tmp_path, *ARGUMENTS.get(recipe.title, ()), TEST_FILE)
    # Nothing was skipped, and nothing gave a warning.
    assert set(counts(said)) == {"passed"}, said


def test_no_recipe_is_missing():
    assert {recipe.title for recipe in RECIPES} >= EXPECTED


def test_links_of_the_pages_lead_somewhere():
    texts = {path.name: path.read_text(encoding="utf-8") for path in PAGES}
    anchors = {
        name: {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles(text)}
        for name, text in texts.items()
    }
    links = [
        (page or name, anchor)
        for name, text in texts.items()
        for page, anchor in re.findall(r"\]\(([\w.-]*)#([^)]*)\)", text)
    ]
    assert links
    assert [link for link in links if link[1] not in anchors[link[0]]] == []


def test_the_workflow_is_one():
    yaml = pytest.importorskip("yaml")
    section = PAGES[1].read_text(encoding="utf-8").partition("### GitHub Actions\n")[2]
    block = section.partition("```yaml\n")[2].partition("```")[0]
    (job,) = yaml.safe_load(block)["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands[-1].split() == ["python", "-m", "pymcd.testing", "--", "npm", "test"]
    assert all(set(step) <= {"uses", "with", "run"} for step in job["steps"])


SMALL_PAGE = """\
# One
```python
a = 1
```
text
```python
# conftest.py
b = 2
```
```sh
# not a heading
```
```python
c = 3
```
## Two
nothing
## Three
```python
import no_such_thing
```
"""


def test_blocks_become_files():
    one, three = recipes(SMALL_PAGE)
    assert one.title == "One"
    assert one.files == {TEST_FILE: "a = 1\nc = 3\n", "conftest.py": "# conftest.py\nb = 2\n"}
    assert (three.title, three.missing()) == ("Three", ["no_such_thing"])
    assert titles(SMALL_PAGE) == ["One", "Two", "Three"]


@pytest.mark.slow
@pytest.mark.timeout(RUN_TIMEOUT_S)
def test_the_same_recipes_on_a_server_that_is_there_already(tmp_path):
    """Any server will do for that, so also one of ours."""
    (expiry,) = (recipe for recipe in RECIPES if recipe.title == "Expiry")
    if missing := expiry.missing():
        pytest.skip(needs(*missing))
    expiry.write(tmp_path)
    with MemcachedServer() as there:
        there.put("someone's", b"item")
        said = run_pytest(tmp_path, "-rs", f"--memcached-server={there.url}", TEST_FILE)
        assert there.items() == {}
    # Those that start a server of their own pass; the one that uses the fixture moves the clock.
    assert counts(said) == {"passed": 4, "skipped": 1}
    assert "advance is beyond a real memcached" in said
