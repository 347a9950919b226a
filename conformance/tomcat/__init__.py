"""Real Tomcats with memcached-session-manager, on memcached, pymcd and pairs of it."""
