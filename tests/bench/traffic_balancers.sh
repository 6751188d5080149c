# shellcheck shell=bash
#
# For traffic.sh: the shops, and each balancer before them, on free loopback ports, with a policy that moves it. The
# configurations are the ones of compose/, with other addresses. What they share: two stable shops and a canary, which
# all answer after 5 ms and never fail, so that what is above that is the balancer's and the machine's.

compose=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../compose" && pwd)
# Set by traffic.sh for each balancer: its folder and its addresses.
dir='' web_port=0 ops_port=0 stable1_port=0 stable2_port=0 canary1_port=0
declare -A pids=()

need() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || fail "$program is not there; install it first"
    done
}

# launch NAME COMMAND...: in the background, its output in NAME.log.
launch() {
    "${@:2}" >"$dir/$1.log" 2>&1 </dev/null &
    pids[$1]=$!
}

wait_http() {
    local try
    for ((try = 0; try < 200; try++)); do
        curl -fsS -o /dev/null --noproxy '*' --max-time 1 "$2" 2>/dev/null && return 0
        kill -0 "${pids[$1]}" 2>/dev/null || break
        sleep 0.05
    done
    fail "$1 is not ready at $2: $(tail -n 3 "$dir/$1.log")"
}

# The load first and the shops last, so that nobody is missed by somebody who still runs.
stop_all() {
    local each
    for each in load balancer stable1 stable2 canary1; do
        [[ -v pids[$each] ]] || continue
        kill -TERM "${pids[$each]}" 2>/dev/null || true
        wait "${pids[$each]}" 2>/dev/null || true
        unset "pids[$each]"
    done
}

start_shops() {
    local each port version
    shop_metrics=()
    for each in stable1 stable2 canary1; do
        port=${each}_port
        [[ $each == canary* ]] && version=v2 || version=v1
        launch "$each" "$HALDANE_BUILD/compose/haldane-demo-shop" --listen "127.0.0.1:${!port}" --version "$version" \
            --latency-median 5ms --latency-sigma 0 --drain 0s
        shop_metrics+=("http://127.0.0.1:${!port}/metrics")
    done
    for each in stable1 stable2 canary1; do
        port=${each}_port
        wait_http "$each" "http://127.0.0.1:${!port}/readyz"
    done
}

# policy: its `traffic` section comes from standard input. The rest is what a policy needs, and is not used here.
write_policy() {
    cat - >"$dir/policy.yaml" <<'YAML'
version: 1
service: shop
prometheus: {url: http://127.0.0.1:9}
tracks:
  stable: 'track="stable"'
  canary: 'track="canary"'
steps:
  - {weight: 5%, min: 5m, max: 1h}
  - {weight: 100%, bake: 5m}
metrics:
  - name: errors
    type: errors
    total: 'http_requests_total{$track}'
    failed: 'http_requests_total{code=~"5..",$track}'
    abort_above: {ratio: 1.1, absolute: 0%}
    promote_below: {ratio: 2, absolute: 1%}
traffic:
YAML
    sed 's/^/  /' >>"$dir/policy.yaml"
}

start_haproxy_weights() {
    sed -e "s|@WEB_PORT@|$web_port|" -e "s|@OPS_PORT@|$ops_port|" -e "s|@STABLE1_PORT@|$stable1_port|" \
        -e "s|@STABLE2_PORT@|$stable2_port|" -e "s|@CANARY1_PORT@|$canary1_port|" \
        -e "s|@ADMIN_SOCKET@|$dir/admin.sock|" "$compose/demo/haproxy.cfg.in" >"$dir/haproxy.cfg"
    launch balancer haproxy -db -f "$dir/haproxy.cfg"
    write_policy <<YAML
driver: haproxy
socket: $dir/admin.sock
backend: shop
stable: [stable1, stable2]
canary: [canary1]
YAML
}

# The example with the map, which two of the balancers share.
write_haproxy_map() {
    sed -e "s|/run/haproxy/admin.sock|$dir/admin.sock|" -e 's| group haldane||' -e "s|/etc/haproxy/maps|$dir|g" \
        -e "s|bind :80|bind 127.0.0.1:$web_port|" -e "s|127.0.0.1:8405|127.0.0.1:$ops_port|" \
        -e "s|10.0.0.1:8080|127.0.0.1:$stable1_port|" -e "s|10.0.0.2:8080|127.0.0.1:$stable2_port|" \
        -e "s|10.0.0.7:8080|127.0.0.1:$canary1_port|" -e 's|GET /health$|GET /readyz|' \
        "$compose/examples/haproxy-map.cfg" >"$dir/haproxy.cfg"
    printf 'canary 0\nepoch 0\nexpires 0\n' >"$dir/share.map"
}

start_haproxy_map() {
    write_haproxy_map
    launch balancer haproxy -db -f "$dir/haproxy.cfg"
    write_policy <<YAML
driver: haproxy
socket: $dir/admin.sock
map: $dir/share.map
stable: [be_stable/stable1, be_stable/stable2]
canary: [be_canary/canary1]
YAML
}

start_haproxy_reload() {
    write_haproxy_map
    launch balancer haproxy -W -db -f "$dir/haproxy.cfg"
    printf '%d\n' "${pids[balancer]}" >"$dir/haproxy.pid"
    write_policy <<YAML
driver: exec
command: [$(dirname "${BASH_SOURCE[0]}")/traffic_reload.sh, $dir]
YAML
}

# start_nginx EXAMPLE: all that nginx writes goes into the balancer's folder.
start_nginx() {
    sed -e 's|^user .*|user root;|' -e "s|/run/nginx.pid|$dir/nginx.pid|" -e "s|/var/log/nginx|$dir|" \
        -e "s|^http {|&\n    client_body_temp_path $dir/body;\n    proxy_temp_path $dir/proxy;|" \
        -e "s|^http {|&\n    fastcgi_temp_path $dir/fastcgi;\n    uwsgi_temp_path $dir/uwsgi;\n    scgi_temp_path $dir/scgi;|" \
        -e "s|listen 80;|listen 127.0.0.1:$web_port;|" -e "s|127.0.0.1:8405|127.0.0.1:$ops_port|" \
        -e "s|10.0.0.1:8080|127.0.0.1:$stable1_port|" -e "s|10.0.0.7:8080|127.0.0.1:$canary1_port|" \
        -e "s|/var/lib/haldane/flags|$dir/flags|" -e "s|/etc/nginx/haldane|$dir|" \
        "$compose/examples/$1" >"$dir/nginx.conf"
    launch balancer nginx -c "$dir/nginx.conf" -e "$dir/error.log" -g 'daemon off;'
}

start_nginx_flags() {
    mkdir "$dir/flags"
    start_nginx nginx-flags.conf
    write_policy <<YAML
driver: nginx
flags: $dir/flags
probe: http://127.0.0.1:$ops_port/haldane/share
YAML
}

start_nginx_split() {
    # What the file begins with stands in the example, as a comment.
    sed -n '/^#   # haldane/,/^#   map /s/^#   //p' "$compose/examples/nginx-split.conf" >"$dir/split.conf"
    start_nginx nginx-split.conf
    write_policy <<YAML
driver: nginx
split: $dir/split.conf
probe: http://127.0.0.1:$ops_port/haldane/share
test: [nginx, -t, -q, -c, $dir/nginx.conf, -e, $dir/error.log]
reload: [nginx, -s, reload, -c, $dir/nginx.conf, -e, $dir/error.log]
YAML
}

start_caddy_flags() {
    mkdir "$dir/flags"
    sed -e 's|admin localhost:2019|admin off|' -e "s|http://:80 |http://127.0.0.1:$web_port |" \
        -e "s|127.0.0.1:8405|127.0.0.1:$ops_port|" -e "s|/var/lib/haldane/flags|$dir/flags|" \
        -e "s|10.0.0.1:8080|127.0.0.1:$stable1_port|g" -e "s|10.0.0.7:8080|127.0.0.1:$canary1_port|g" \
        "$compose/examples/Caddyfile" >"$dir/Caddyfile"
    launch balancer env HOME="$dir" XDG_CONFIG_HOME="$dir" XDG_DATA_HOME="$dir" \
        caddy run --config "$dir/Caddyfile" --adapter caddyfile
    write_policy <<YAML
driver: caddy
flags: $dir/flags
probe: http://127.0.0.1:$ops_port/haldane/share
YAML
}
