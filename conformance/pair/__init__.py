"""Two or three real servers that replicate, and what happens to them and to the wire between.

`nodes` starts, kills, freezes and restarts processes, `wire` is the bad network, `load` are the
clients, `ways` how these come in, and `tongues` what they speak. With a third vote each server is
on a host of its own: `namespaces` and `thirds` have these, `takers` the clients there, and `probe`
tells what part of a wait was the machine's. The trials are in the other modules:
`python -m conformance.pair NAME` runs one and prints its figures beside the bars.
"""
