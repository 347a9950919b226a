"""Hides epoll and eventfd from all but event loops: so systems look that have neither, as macOS.

Python imports this at its start, and so do its children, where this folder is in PYTHONPATH.
"""

from __future__ import annotations

import os
import select
import selectors
import sys
from importlib.machinery import PathFinder
from types import SimpleNamespace
from typing import Any

#: What needs it, on Linux.
_TRIOS = "trio._core._io_epoll"

_everything = SimpleNamespace(**vars(select))
_hidden = {
    (module, name): getattr(module, name)
    for module, words in ((select, ("epoll", "EPOLL")), (os, ("eventfd", "EFD_")))
    for name in dir(module)
    if name.startswith(words)
}


def _hide() -> None:
    for module, name in _hidden:
        delattr(module, name)


class _Finder:
    """Lets one module see what there is."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        if name != _TRIOS:
            return None
        spec = PathFinder.find_spec(name, path)
        loader: Any = None if spec is None else spec.loader
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            for (place, word), value in _hidden.items():
                setattr(place, word, value)
            execute(module)
            module.select = _everything
            _hide()

        loader.exec_module = exec_module
        return spec


setattr(selectors, "select", _everything)  # noqa: B010 - which is not said to be there
sys.meta_path.insert(0, _Finder)
_hide()
