#!/usr/bin/env bats
#
# The unit files: systemd understands them, they are installed where it looks, and the order to go back is given for a
# rollout that was killed, and never for somebody else's. HALDANE_BUILD names the build.

: "${HALDANE_BUILD:?HALDANE_BUILD must name the build directory}"
root=$(cd -- "$BATS_TEST_DIRNAME/../.." && pwd)

# fill: the units as they are installed, with the program in a folder of ours; it writes down how it was called.
setup() {
    bin=$BATS_TEST_TMPDIR/bin
    calls=$BATS_TEST_TMPDIR/calls
    mkdir -- "$bin"
    printf '#!/bin/sh\nprintf "%%s|" "$@" >>"%s"\n' "$calls" >"$bin/haldane"
    chmod +x "$bin/haldane"
    for unit in haldane-guard.service haldane-rollout@.service; do
        sed "s|@bindir@|$bin|g" "$root/deployment/systemd/$unit.in" >"$BATS_TEST_TMPDIR/$unit"
    done
}

@test "systemd finds nothing to say against the units" {
    run systemd-analyze verify --man=no "$BATS_TEST_TMPDIR"/*.service
    echo "$output"
    [ "$status" -eq 0 ]
    [ -z "$output" ]
}

@test "that check finds what is wrong" {
    sed -i 's|^WatchdogSec=.*|WatchdogSec=soon|' "$BATS_TEST_TMPDIR/haldane-guard.service"
    run systemd-analyze verify --man=no "$BATS_TEST_TMPDIR"/*.service
    [[ $output == *"Failed to parse sec value"* ]]
}

@test "the user of the units is the one that sysusers makes" {
    run systemd-sysusers --dry-run "$root/deployment/systemd/haldane.sysusers"
    [ "$status" -eq 0 ]
    for unit in "$BATS_TEST_TMPDIR"/*.service; do
        grep -qx User=haldane "$unit"
        grep -qx Group=haldane "$unit"
    done
    grep -q '^u haldane ' "$root/deployment/systemd/haldane.sysusers"
}

@test "both units see the same store, and are shut in the same way" {
    for unit in "$BATS_TEST_TMPDIR"/*.service; do
        sed -n '/^User=/,/^SystemCallFilter=/p' "$unit" | grep -v '^#' >"$unit.shared"
        [ "$(wc -l <"$unit.shared")" -gt 20 ]
    done
    diff "$BATS_TEST_TMPDIR"/*.shared
}

@test "installed: the units and the user where systemd looks, with the program's full path" {
    grep -q "^ExecStart=/.*/haldane guard$" "$HALDANE_BUILD/deployment/systemd/haldane-guard.service"
    grep -q "^ExecStart=/.*/haldane rollout /etc/haldane/%i.yaml$" \
        "$HALDANE_BUILD/deployment/systemd/haldane-rollout@.service"
    ! grep -q '@bindir@' "$HALDANE_BUILD"/deployment/systemd/*.service || return 1
    meson introspect --installed "$HALDANE_BUILD" >"$BATS_TEST_TMPDIR/installed"
    jq -e '[.[]] | any(endswith("/lib/systemd/system/haldane-guard.service"))
        and any(endswith("/lib/systemd/system/haldane-rollout@.service"))
        and any(endswith("/lib/sysusers.d/haldane.conf"))' "$BATS_TEST_TMPDIR/installed"
}

# stop_post CODE STATUS RESULT: what systemd runs after the end of a rollout, as it runs it.
stop_post() {
    local line script
    line=$(sed -n 's/^ExecStopPost=-//p' "$BATS_TEST_TMPDIR/haldane-rollout@.service")
    script=${line#"/bin/sh -c '"}
    script=${script%"' %i"}
    [ "$line" = "/bin/sh -c '$script' %i" ]
    rm -f -- "$calls"
    EXIT_CODE=$1 EXIT_STATUS=$2 SERVICE_RESULT=$3 /bin/sh -c "${script//\$\$/\$}" shop
}

@test "a rollout whose process was killed is sent back to stable, with what systemd knows as the reason" {
    for how in 'killed KILL watchdog' 'killed KILL oom-kill' 'killed SEGV signal' 'dumped ABRT core-dump' \
        'exited 70 exit-code'; do
        read -r code status result <<<"$how"
        stop_post "$code" "$status" "$result"
        [ "$(<"$calls")" = "abort|shop|--reason|its process ended: $result|" ]
    done
}

@test "one that ended by itself, or was never begun, sends nobody's rollout back" {
    for status in 0 20 64 65 66 69 74 75 203; do
        stop_post exited "$status" exit-code
        [ ! -e "$calls" ]
    done
}
