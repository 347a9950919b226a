"""Two or three real servers that replicate, and what happens to them and to the wire between.

`nodes` starts, kills, freezes and restarts processes, `wire` is the bad network, `load` are the
clients. The trials themselves are in `losses`, `locks`, `partitions`, `strangers` and `resources`;
`python -m conformance.pair NAME` runs one and prints its figure beside the bar.
"""
