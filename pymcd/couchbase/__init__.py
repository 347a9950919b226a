"""A pair as clients of Couchbase know it: a bucket, and a map that says who serves it. No I/O.

`documents` makes the JSON of which a client bootstraps, `directory` says what a node of the pair
knows of the others, `conversation` speaks HTTP with one client, by h11, the one module that needs
it. What is served is what couchbase-client 1.4 asks for (memcached-session-manager uses it for
`memcachedNodes="http://..."`), and nothing of a Couchbase server beyond: no views, no
administration, no persistence. The items themselves go by memcached's binary protocol.
"""
