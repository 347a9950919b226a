"""What a server says by HTTP of itself: to load balancers, to Prometheus, to people. No I/O.

`conversation` speaks HTTP with one client, by h11, the one module that needs it; the bucket of
`couchbase` is a conversation, too. `pages` knows what there is to be asked, `metrics` has the table
of all that is measured. Who may come, how many and for how long, is for the server to say.
"""
