"""What runs a `Service`: sockets, tasks, signals. It drives the parts without I/O with trio.

`process` starts and ends a process around a `serving.Server`, which lets clients in (`listening`,
`accepting`) and hands each to a driver: the `hub`, or `streams` where there is no epoll, with `tls`
between, and `udp`. `peering` and its wires are the sockets of a node, `couchbase` the bucket's.

A part is handed what it needs when it is made. Set later is only what cannot be known then: a
connection's way to its driver (`wake`, `suspend`, `deliver`), a link's to its wire (`push`), the
gate of a service, as a node is made of the service's cache.
"""
