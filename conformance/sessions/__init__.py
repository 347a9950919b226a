"""Sessions of web applications, in a memcached or a pair of them."""
