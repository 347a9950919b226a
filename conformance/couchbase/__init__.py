"""The bucket of --couchbase, asked for by the real couchbase-client."""
