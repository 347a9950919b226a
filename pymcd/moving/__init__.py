"""Items on their way from one server to another: what is asked, what is answered, what is kept.

`dumpfile` is the form of items in a file, `plan` remembers which keys are still to be fetched,
`source` asks a server for its keys and items, `target` has one store them, by a `talk`; `filling`
decides which of them may become ours while clients are served. All of it is bytes in, bytes out:
sockets and files are in `server/` and `tools/`.
"""
