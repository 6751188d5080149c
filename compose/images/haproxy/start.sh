#!/bin/sh
# HAProxy does not start without the map, nor like an empty state file. Both belong to haldane from then on.
set -eu
umask 0007

# put FILE: standard input, in one step, if the file is not there.
put() {
    [ -e "$1" ] || { cat >"$1.new" && chmod 664 "$1.new" && mv "$1.new" "$1"; }
}

printf 'canary 0\nepoch 0\nexpires 0\n' | put /etc/haproxy/maps/share.map
printf '1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight\n' |
    put /var/lib/haproxy/server-state
exec haproxy -W -S /run/haproxy/master.sock,mode,660 -f /usr/local/etc/haproxy/haproxy.cfg
