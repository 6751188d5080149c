# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # settings, and variables of rollback.sh
# shellcheck disable=SC2016 # programs of another shell, which expands them
#
# The balancer past haldane, for rollback.sh: HAProxy's socket, its pages and its files, for both ways to split traffic.
#
#   a map      SHARE_MAP: the canary's share stands in it (STRATEGY=canary; empty: by weights)
#   weights    of the servers of one backend: BALANCER_STABLE and BALANCER_CANARY, or BALANCER_COLOUR
#
# Uses of the caller: `good` and `bad` (slots), way_limit (seconds for a call), scratch; lib/process.sh, lib/haldane.sh.
#
#   balancer_at_socket    all traffic to the good side, over the socket; fails unless it reads back so
#   balancer_by_file      the same in the balancer's file, and a reload
#   balancer_split        sets `split`: safe if the balancer says that the bad side gets nothing, unknown, or what it is
#   balancer_side SLOT    sets `side`: up if the balancer sees one of its servers up, down if it sees all of them down,
#                         else unknown
#   balancer_commands     what a person would type at the socket
#   balancer_file_text    what a person would do to the file

by_map() {
    [[ $STRATEGY == canary && -n $SHARE_MAP ]]
}

# servers_of SLOT: as BACKEND/SERVER, one a line.
servers_of() {
    local server servers
    case $1 in
        stable) servers=$BALANCER_STABLE ;;
        canary) servers=$BALANCER_CANARY ;;
        *) servers=${BALANCER_COLOUR//\{colour\}/$1} ;;
    esac
    for server in $servers; do
        printf '%s\n' "$server"
    done
}

# balancer COMMAND: what HAProxy answers to one command, without the empty line at its end. Fails if it cannot be
# reached.
balancer() {
    printf '%s\n' "$1" >"$scratch/command"
    run_to_end timeout --kill-after=2 "$way_limit" bash -c 'exec <"$0"; '"$BALANCER_COMMAND" "$scratch/command" \
        >"$scratch/said" 2>"$scratch/errors" || {
        log_lines balancer "$scratch/errors" || true
        return 1
    }
    sed '/^$/d' "$scratch/said"
}

# balancer_does COMMAND: HAProxy has no exit code. Its yes is an empty line; any text is its no.
balancer_does() {
    local said
    said=$(balancer "$1") || return 1
    [[ -n $said ]] || return 0
    log "balancer: $1: $said"
    return 1
}

# --- The socket ------------------------------------------------------------------------------------------------------

balancer_commands() {
    local server
    if by_map; then
        printf 'set map %s canary 0\n' "$SHARE_MAP"
        return
    fi
    # Raise first, then lower: there must be no moment in which no server has weight.
    servers_of "$good" | while IFS= read -r server; do
        printf 'set server %s weight 100\n' "$server"
    done
    servers_of "$bad" | while IFS= read -r server; do
        printf 'set server %s weight 0\n' "$server"
    done
}

balancer_at_socket() {
    local command failed=''
    [[ -n $BALANCER_COMMAND ]] || return 1
    while IFS= read -r command; do
        # Where the good side could not be raised, the bad one is not lowered.
        [[ $command != *' weight 0' || -z $failed ]] || return 1
        balancer_does "$command" || failed=yes
    done < <(balancer_commands)
    if by_map && [[ -n $failed ]]; then
        balancer_does "add map $SHARE_MAP canary 0" || return 1
    fi
    # For the next start. The traffic does not wait for it.
    write_file || log "warning: the balancer's file could not be written; a restart may bring the old share back:" \
        "$(balancer_file_text)"
    socket_split
    [[ $split == safe ]]
}

# --- The file --------------------------------------------------------------------------------------------------------

balancer_file_text() {
    if by_map; then
        printf "in %s: canary 0\n" "$SHARE_MAP"
    else
        printf 'in %s: weight 100 (field 8) for %s, and 0 for %s\n' "$SERVER_STATE" \
            "$(servers_of "$good" | tr '\n' ' ')" "$(servers_of "$bad" | tr '\n' ' ')"
    fi
}

# where_balancer_is COMMAND: runs it with the shell there; its stdin is $scratch/input.
where_balancer_is() {
    run_to_end timeout --kill-after=2 "$way_limit" \
        bash -c 'exec <"$0"; '"${BALANCER_SHELL:-sh -c}"' "$1"' "$scratch/input" "$1" 2>"$scratch/errors" || {
        log_lines balancer "$scratch/errors" || true
        return 1
    }
}

balancer_by_file() {
    local status=0
    write_file || return 1
    [[ -n $BALANCER_RELOAD_COMMAND ]] || return 1
    run_to_end timeout --kill-after=2 60 bash -c "$BALANCER_RELOAD_COMMAND" >"$scratch/said" 2>&1 || status=$?
    log_lines reload "$scratch/said" || true
    ((status == 0)) || return 1
    wait_for_reload
}

# Some balancers say that they are done before they are.
wait_for_reload() {
    local deadline=$((EPOCHSECONDS + way_limit))
    while :; do
        balancer_split
        [[ $split != safe ]] || return 0
        ((EPOCHSECONDS < deadline)) || return 1
        run_to_end sleep 0.5
    done
}

write_file() {
    local file
    if by_map; then file=$SHARE_MAP; else file=$SERVER_STATE; fi
    [[ -n $file ]] || return 1
    : >"$scratch/input"
    where_balancer_is "cat -- $(quoted "$file")" >"$scratch/before" || : >"$scratch/before"
    if by_map; then
        new_map <"$scratch/before" >"$scratch/input"
    else
        new_state <"$scratch/before" >"$scratch/input"
    fi
    [[ -s $scratch/input ]] || return 1
    where_balancer_is "$(replace_file "$file")" >/dev/null
}

# A command for a shell there: replaces the file by its stdin in one step; where there is no room for both, by writing
# over it. (It reads its stdin first, so that a call that breaks off leaves the file as it was.)
replace_file() {
    local file new
    file=$(quoted "$1")
    new=$(quoted "$(dirname -- "$1")/.$(basename -- "$1").rollback")
    printf 'text=$(cat) && [ -n "$text" ] || exit 1\n'
    printf 'if printf "%%s\\n" "$text" >%s && chmod 0644 %s; then sync %s; mv -f %s %s\n' \
        "$new" "$new" "$new" "$new" "$file"
    printf 'else rm -f %s; printf "%%s\\n" "$text" >%s; fi\n' "$new" "$file"
}

# What else is in the map stays: the epoch fences off who comes late.
new_map() {
    awk 'NF && $1 != "canary" && $1 != "expires" { print; if ($1 == "epoch") epoch = 1 }
        END { print "canary 0"; print "expires 0"; if (!epoch) print "epoch 0" }'
}

# HAProxy's own account of its servers with other weights; the first line is the version of its format.
new_state() {
    awk -v good="$(servers_of "$good" | tr '\n' ' ')" -v bad="$(servers_of "$bad" | tr '\n' ' ')" '
        BEGIN { split(good, list, " "); for (i in list) weight[list[i]] = 100
                split(bad, list, " "); for (i in list) weight[list[i]] = 0 }
        !/^#/ && ($2 "/" $4) in weight { $8 = weight[$2 "/" $4]; seen++ }
        { text = text $0 "\n" }
        END { if (seen) printf "%s", text }'
}

# --- What the balancer says of itself --------------------------------------------------------------------------------

# Of three who know, the first that answers: its page, its socket, haldane.
balancer_split() {
    page_split
    [[ $split != unknown ]] || socket_split
    [[ $split != unknown ]] || haldane_split
}

page_split() {
    local page
    split=unknown
    there "$OPS_URL" || return 0
    page=$(curl --silent --fail --noproxy '*' --max-time 3 "$OPS_URL/haldane/share" 2>/dev/null </dev/null) || return 0
    if [[ $STRATEGY == canary ]]; then
        [[ $page =~ (^|[[:blank:]])share_bp=([0-9]+) ]] || return 0
        told_split "$(percent "${BASH_REMATCH[2]}") for $bad" $((BASH_REMATCH[2] == 0))
    else
        [[ " $page " =~ \ $bad=([0-9]+)\  ]] || return 0
        told_split "weight ${BASH_REMATCH[1]} for $bad" $((BASH_REMATCH[1] == 0))
    fi
}

# told_split TEXT YES
told_split() {
    if (($2)); then split=safe; else split=$1; fi
}

socket_split() {
    local said
    split=unknown
    [[ -n $BALANCER_COMMAND ]] || return 0
    if by_map; then
        said=$(balancer "show map $SHARE_MAP" | awk '$2 == "canary" { print $3 }') || return 0
        # What is no number counts as 0: so do HAProxy's rules.
        [[ -n $said ]] || return 0
        [[ $said =~ ^[0-9]+$ ]] || said=0
        told_split "$(percent "$said") for $bad" $((said == 0))
    else
        socket_weights
    fi
}

socket_weights() {
    local server said weights=''
    while IFS= read -r server; do
        said=$(balancer "get weight $server") || return 0
        [[ $said =~ ^([0-9]+)\  ]] || return 0
        [[ ${BASH_REMATCH[1]} == 0 ]] || weights+="${weights:+, }$server ${BASH_REMATCH[1]}"
    done < <(servers_of "$bad")
    if [[ -n $weights ]]; then split="weights $weights"; else split=safe; fi
}

haldane_split() {
    local share=''
    split=unknown
    read_share || return 0
    told_split "$(percent "$share") for $bad" $((share == 0))
}

# In the exporter's series, or over the socket.
balancer_side() {
    local page
    page=$(curl --silent --fail --noproxy '*' --max-time 3 "$OPS_URL/metrics?scope=server" 2>/dev/null </dev/null) ||
        page=''
    [[ -n $page ]] || page=$(socket_states) || page=''
    side=$(awk -v servers="$(servers_of "$1" | tr '\n' ' ')" '
        BEGIN { n = split(servers, list, " ")
                for (i = 1; i <= n; i++) {
                    split(list[i], name, "/")
                    label[i] = "proxy=\"" name[1] "\",server=\"" name[2] "\"," } }
        index($0, "haproxy_server_status{") == 1 && $NF == 1 {
            for (i = 1; i <= n; i++) if (index($0, label[i])) {
                known[i] = 1; if (/state="(UP|NOLB|no check)"/) up = 1 } }
        END { for (i = 1; i <= n; i++) told += known[i]
              print up ? "up" : n && told == n ? "down" : "unknown" }' <<<"$page")
}

# The socket's account, in the exporter's words.
socket_states() {
    balancer 'show servers state' | awk '!/^#/ && NF > 6 {
        printf "haproxy_server_status{proxy=\"%s\",server=\"%s\",state=\"%s\"} 1\n", $2, $4, $6 == 2 ? "UP" : "DOWN" }'
}
