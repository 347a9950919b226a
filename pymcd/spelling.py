"""What somebody may have meant who wrote a word that is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


#: Below this it is another word; `hlep` is `help` by as much.
_LIKENESS: Final = 0.75


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return what to add to "no such word": the one that is most like it; nothing if none is."""
    import difflib  # only who is mistaken waits for it

    by_letters = {each.casefold(): each for each in known}
    found = difflib.get_close_matches(word.casefold(), by_letters, n=1, cutoff=_LIKENESS)
    return f"; did you mean {by_letters[found[0]]}?" if found else ""
