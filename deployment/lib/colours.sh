# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # the settings, policy, user_settings, answer and share are the caller's
#
# Which of the two colours is live, what runs in them, and whether the other one is kept for a return.
#
# The policy for blue/green names its servers by the settings LIVE and IDLE, so that one policy serves both directions:
# the live colour has the part of stable, the idle one that of the canary. The balancer alone knows which is which: it
# is asked with blue as the live one, and a share of 100 % then says that it is green.
#
# A colour is *kept* after a switch away from it, with the version that it ran. $STATE_DIR/kept says which, and is gone
# as soon as something else is deployed there: one must not return at once to what never had the traffic.

live=''
idle=''
up_old=0 # servers of the live colour, and of the idle one, that are up
up_new=0

# set_roles LIVE IDLE
set_roles() {
    live=$1 idle=$2
    side_old=$1 side_new=$2
    settings=("LIVE=$1" "IDLE=$2" "${user_settings[@]}")
}

# find_live: sets live, idle, settings, up_old and up_new. Fails with 75 if the traffic is split, and as haldane did
# otherwise.
find_live() {
    local status=0
    set_roles blue green
    share=''
    read_share || status=$?
    ((status == 0)) || return "$status"
    up_old=$(field stable_up)
    up_new=$(field canary_up)
    case $share in
        0) ;;
        10000)
            set_roles green blue
            status=$up_old up_old=$up_new up_new=$status
            ;;
        *) return 75 ;;
    esac
    # Without health checks nobody knows; then it is not held against them.
    up_old=${up_old:-1} up_new=${up_new:-1}
}

find_live_or_fail() {
    local status=0 remembered
    find_live || status=$?
    case $status in
        0) ;;
        75)
            fail 75 "the traffic is split ($(percent "$share") on green): a switch is under way, or somebody set it so." \
                "See blue-green.sh --status; blue-green.sh --back ends a switch, rollback.sh any of it"
            ;;
        *) fail "$(code_before_traffic "$status")" "the balancer does not say which colour is live" ;;
    esac
    remembered=$(live_slot) || remembered=''
    [[ -z $remembered || $remembered == "$live" ]] ||
        log "warning: by the record of the last deployment $remembered is live; the balancer says $live, and is" \
            "believed"
}

# rollout_under_way: prints the id of the service's rollout, nothing if there is none; fails if haldane does not say.
rollout_under_way() {
    local status=0
    ask status --format json || status=$?
    ((status == 0 || status == 10)) || return 1
    jq -rn --arg service "$SERVICE" 'first(inputs | select(.service == $service) | .rollout)' <<<"$answer"
}

keep_colour() {
    local kept
    kept=$(version_of "$1") || return 0
    {
        printf '%s %s\n' "$1" "$kept" >"$STATE_DIR/.kept.new" && mv -f -- "$STATE_DIR/.kept.new" "$STATE_DIR/kept"
    } 2>/dev/null || log "warning: that $1 is kept cannot be written to $STATE_DIR"
}

forget_kept() {
    rm -f -- "$STATE_DIR/kept"
}

# Prints the colour that is kept; fails if there is none, or if something else was deployed there since.
kept_colour() {
    local colour kept
    { read -r colour kept <"$STATE_DIR/kept"; } 2>/dev/null || return 1
    [[ $(version_of "$colour") == "$kept" ]] || return 1
    printf '%s\n' "$colour"
}

is_kept() {
    [[ $(kept_colour) == "$1" ]]
}

# status_json FOUND ROLLOUT, status_text FOUND ROLLOUT: FOUND is empty if it is not clear which colour is live.
status_json() {
    jq -n --arg live "${1:+$live}" --arg rollout "$2" --arg remembered "$(live_slot || true)" \
        --arg kept "$(kept_colour || true)" --argjson versions "$(versions_json)" --arg share "${share:-}" \
        --arg up_live "${1:+$up_old}" --arg up_idle "${1:+$up_new}" '
        def known: if . == "" then null else . end;
        {live: ($live | known), idle: {"blue": "green", "green": "blue"}[$live],
         share_of_green: ($share | known | if . then tonumber else null end),
         up: (if $live == "" then null else {live: ($up_live | tonumber), idle: ($up_idle | tonumber)} end),
         remembered: ($remembered | known), kept: ($kept | known), rollout: ($rollout | known),
         versions: ($versions | {blue, green})}'
}

status_text() {
    local colour what
    [[ -n $1 ]] || printf 'It is not clear which colour is live: green has %s.\n' \
        "$([[ -n $share ]] && percent "$share" || printf 'an unknown share')"
    for colour in blue green; do
        what="version $(version_of "$colour" || printf '?')"
        [[ -z $1 || $live != "$colour" ]] || what+=", live, $up_old up"
        [[ -z $1 || $idle != "$colour" ]] || what+=", idle, $up_new up"
        [[ $(kept_colour || true) != "$colour" ]] || what+=', kept: blue-green.sh --back returns to it'
        printf '%-6s %s\n' "$colour" "$what"
    done
    [[ -z $2 ]] || printf 'Rollout under way: %s\n' "$2"
}
