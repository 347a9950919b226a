"""Items move from a real memcached to pymcd and back."""
