#!/bin/sh
# Redis reads its password from its configuration only, not from a file of its own and not from the command line, where
# everybody could see it. So the configuration is made here, in memory.
set -eu
umask 077
cat >/run/redis/redis.conf <<CONF
bind 0.0.0.0
port 6379
protected-mode no
requirepass $(cat /run/secrets/redis_password)
maxmemory ${REDIS_MAXMEMORY:-192mb}
maxmemory-policy allkeys-lru
save ""
appendonly no
dir /run/redis
timeout 300
tcp-keepalive 60
CONF
exec redis-server /run/redis/redis.conf
