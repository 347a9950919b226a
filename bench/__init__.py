"""What pymcd costs beside a real memcached, measured on this machine: `python -m bench`.

Starts the server under test and memcached in turn, puts the same load on both, and prints each
side's figures, their ratio and the bar the ratio has to meet. The parts, in the order of a run:
`contenders` start and stop servers and read what the kernel knows about them, `loads` put work on
a server, `scenarios` say what is measured, `report` and `plot` show it. Nothing here is imported
by the server, and no figure decides a test.
"""
