"""Fuzzing: inputs of any bytes, which may break none of the promises in `targets`.

`python -m tests.fuzz TARGET` searches with coverage feedback; `test_fuzz` replays what is in
`corpus`, and some inputs of its own, in every test run.
"""
