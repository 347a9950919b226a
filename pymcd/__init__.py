"""A memcached server in pure Python, alone, in a replicating pair, or inside a test."""

__version__ = "0.1.0"

__all__ = ["__version__"]
