"""Several pairs, each behind one address, that hold different keys: is it still one store?

`topology` starts the pairs, `page` reads the configurations that docs/capacity.md tells users,
`clients` and `twemproxy` run them, and `load` asks through them and notes what was acknowledged.
The trials are in `losses` (a node of one pair dies or freezes; what moves keys loses them),
`growth` (another pair joins) and `commands` (what twemproxy understands).
"""
