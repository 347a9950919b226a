"""Does pymcd answer as memcached does? Transcripts, random commands, real tools and real clients.

Nothing in here is imported by pymcd. README.md beside this file says how to run each part.
"""
