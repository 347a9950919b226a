"""Replication, without I/O: two servers (or three) that behave as one.

`node` decides, `peer` remembers what is known of another server, `link` is one connection to it,
`changes` records what happened to the items here and applies what happened there, `versions`
says which write is the later one, `frames` is the form of all this on the wire.
"""
