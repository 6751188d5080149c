#!/bin/sh
# Reloads HAProxy, and says whether it took the new configuration: HAProxy 2.6 itself does not.
set -u
master=/run/haproxy/master.sock

# The process ids of the workers, of which the current one is first.
worker() {
    printf 'show proc\n' | socat -t 2 - "UNIX-CONNECT:$master" 2>/dev/null |
        awk '/^# old workers/ { exit } $2 == "worker" { print $1; exit }'
}

haproxy -c -q -f /usr/local/etc/haproxy/haproxy.cfg || {
    echo 'reload: the configuration is wrong; nothing was changed' >&2
    exit 65
}
before=$(worker)
[ -n "$before" ] || {
    echo "reload: no answer on $master" >&2
    exit 69
}
printf 'reload\n' | socat -t 2 - "UNIX-CONNECT:$master" || exit 69
# While the master starts itself anew it does not answer.
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    after=$(worker)
    if [ -n "$after" ] && [ "$after" != "$before" ]; then
        echo "reloaded: worker $before is replaced by $after"
        exit 0
    fi
    sleep 0.25
done
echo 'reload: no new worker came up; the old one goes on' >&2
exit 70
