"""Two or three real servers that replicate, and what happens to them and to the wire between.

`nodes` starts, kills, freezes and restarts processes, `wire` is the bad network, `load` are the
clients, `ways` how these come in, and `tongues` what they speak. The trials themselves are in
`losses`, `locks`, `histories`, `partitions`, `strangers` and `resources`;
`python -m conformance.pair NAME` runs one and prints its figure beside the bar.
"""
