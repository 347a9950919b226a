#!/bin/sh
# What begins with a dash is for the server: `docker run pymcd -m 512`.
set -e
case "${1:-}" in
    "" | -*) set -- pymcd "$@" ;;
esac
exec "$@"
