"""Clients that ask so often, in a process of their own: `python load.py PORT REQUESTS-PER-SECOND`.

Nine of ten requests are gets. It imports nothing of the project, so that it starts at once, and
goes on until it is ended.
"""

from __future__ import annotations

import random
import socket
import sys
import time

CLIENTS = 8
ITEMS = 20_000
VALUE = b"y" * 100


def main() -> None:
    port, rate = int(sys.argv[1]), float(sys.argv[2])
    streams = [socket.create_connection(("127.0.0.1", port)) for _ in range(CLIENTS)]
    for stream in streams:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    choose = random.Random(2)
    due_s = time.monotonic()
    while True:
        for stream in streams:
            number = choose.randrange(ITEMS)
            if choose.random() < 0.9:
                stream.sendall(b"get load%05d\r\n" % number)
            else:
                stream.sendall(b"set load%05d 0 0 %d\r\n%b\r\n" % (number, len(VALUE), VALUE))
            if not stream.recv(4096):
                return
            # By chance, as many clients come: not in step with anybody.
            due_s = max(due_s, time.monotonic() - 0.1) + choose.expovariate(rate)
            time.sleep(max(0.0, due_s - time.monotonic()))


if __name__ == "__main__":
    main()
