"""Client libraries of many languages, each in a program of its own.

A program lives in the folder of its client, is told of one server by the environment (`setups.py`)
and prints a line for every check:

    ok NAME
    not ok NAME: why
    saw NAME: what came, where it only matters that both servers do the same

`runner.py` runs it against memcached and the server under test and compares what it printed.
"""
