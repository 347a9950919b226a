"""Numbers of items, as people read them."""

from __future__ import annotations


def items_in_words(number: int) -> str:
    """Return so many items in words: "1 item", "2,000 items"."""
    return "1 item" if number == 1 else f"{number:,} items"
