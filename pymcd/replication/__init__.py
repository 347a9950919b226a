"""Replication, without I/O: two servers (or three) that behave as one.

`node` decides what this server is, `membership` what it has to do with the others; `gate` is what
connections see of that. What these three work with knows none of them:

* `roles`, `view`: what a node can be, what this one is, and who is in sync with it;
* `peer`: another node, with the `channel` to it, its `lease`, its `resync`; `link`: one connection;
* `commits`, `waiting`: whose replies wait for acknowledgement, and what else there is to wait for;
* `changes`, `versions`: what happened to the items here and elsewhere, and which write is later;
* `frames`, `messages`, `records`: the form of all this on the wire; `report`: what is told of it.
"""
