#!/bin/sh
# redis-cli with the password, for people and health checks.
set -eu
REDISCLI_AUTH=$(cat /run/secrets/redis_password)
export REDISCLI_AUTH
exec redis-cli -h 127.0.0.1 "$@"
