"""The only part that knows sockets, tasks and signals: it drives the sans-I/O parts with trio."""
