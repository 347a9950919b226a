"""Django's own tests of its memcached caches, run on pymcd and on a real memcached.

    python -m conformance.django            fetch them, run both, print where the two differ
    pytest conformance/django               the same as a test, if they were fetched

They come out of the source archive of the Django that is installed, which pip fetches by name.
"""
