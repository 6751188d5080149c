#!/bin/sh
# Starts the shop as the version that the image is. The image's own options come last, so that they hold.
# shellcheck disable=SC2086 # SHOP_OPTIONS is a list of words
set -eu
exec haldane-demo-shop --listen 0.0.0.0:8080 --version "$SHOP_VERSION" "$@" $SHOP_OPTIONS
