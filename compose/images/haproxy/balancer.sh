#!/bin/sh
# HAProxy's commands, one a line on standard input; prints what it answers. When the admin socket is gone, the socket of
# the master process is the second way in. Each command has a connection of its own, as HAProxy wants it.
set -u
admin=/run/haproxy/admin.sock
master=/run/haproxy/master.sock
status=0
while IFS= read -r line; do
    [ -n "$line" ] || continue
    # UNIX-CONNECT and not a bare path: socat would make a plain file of a socket that is missing.
    printf '%s\n' "$line" | socat -t 5 - "UNIX-CONNECT:$admin" 2>/dev/null ||
        printf '@1 %s\n' "$line" | socat -t 5 - "UNIX-CONNECT:$master" || status=69
done
exit "$status"
