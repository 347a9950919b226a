"""What a node can be in its group."""

from __future__ import annotations

from typing import Final

STARTING: Final = "starting"  #: not ready: it may be that others have data
ALONE: Final = "alone"  #: serves by itself
COORDINATOR: Final = "coordinator"  #: of a view: decides
FOLLOWER: Final = "follower"  #: of a view: forwards
JOINING: Final = "joining"  #: was ready, and is to be brought in sync: forwards everything
