#!/bin/sh
# Prometheus expands no variables in its configuration; which shops there are depends on the strategy.
set -eu
ln -sf "/etc/prometheus/targets/${STRATEGY:-canary}.yml" /run/prometheus/shop.yml
exec prometheus --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/var/lib/prometheus \
    --web.listen-address=0.0.0.0:9090 "$@"
