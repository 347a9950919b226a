"""The configurations and tables of docs/capacity.md, so that what users copy is what is tested."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from conformance.servers import ROOT
from conformance.trial import TrialError

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = ROOT / "docs" / "capacity.md"
SHARDS = ("10.0.1.4:11211", "10.0.2.4:11211", "10.0.3.4:11211")
#: What a block says, and what it is to say instead.
Change = tuple[str, str]
PROXY = "127.0.0.1:22121"


def block(language: str, word: str = "") -> str:
    """Return the code block in this language that has the word in it."""
    for found in re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if word in found:
            return str(found)
    raise TrialError(f"{PAGE.name} has no block in {language} with {word!r}")


def addressed(text: str, addresses: Sequence[str]) -> str:
    """Return a documented block with these addresses of shards in the place of its own.

    With fewer of them than the page has, the last ones are taken out.
    """
    for number, documented in enumerate(SHARDS):
        if documented not in text:
            raise TrialError(f"{PAGE.name}: a block no longer speaks of {documented}")
        if number < len(addresses):
            text = text.replace(documented, addresses[number])
        else:
            # An item of a list has a line of its own; in Java they share a string.
            gone = re.escape(documented)
            text = re.sub(rf'^ *(?:- |"){gone}.*\n|  *{gone}', "", text, flags=re.MULTILINE)
    return text


def changed(text: str, *changes: Change) -> str:
    """Return a block with settings changed, each of which must be there."""
    for old, new in changes:
        if old not in text:
            raise TrialError(f"{PAGE.name}: a block no longer has {old!r}")
        text = text.replace(old, new)
    return text
