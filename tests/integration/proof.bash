# shellcheck shell=bash
#
# What the proof checks after every fault, written once, for the soak and for the scenarios. All of it looks past
# haldane: at the balancer, at the rows of the store, at what the shops counted themselves, at what the load generator
# saw. Each check prints what is not so, and fails then.
#
# DEMO_RUN, the DEMO_*_PORTs and DEMO_BALANCER name the stack, HALDANE_DB the store.

proof_sql() {
    sqlite3 -readonly -cmd '.timeout 5000' "$HALDANE_DB" "$1"
}

proof_now_ms() {
    echo $((${EPOCHREALTIME/./} / 1000))
}

# The canary's share in basis points, as the balancer goes by it now. With a map HAProxy itself says so, lease and all.
proof_split() {
    if [[ ${DEMO_BALANCER:-weights} == map ]]; then
        curl -fsS --noproxy '*' --max-time 2 "http://127.0.0.1:$DEMO_OPS_PORT/haldane/share" |
            sed -n 's/^share_bp=\([0-9]*\) .*/\1/p'
    else
        echo 'get weight shop/stable1; get weight shop/stable2; get weight shop/canary1' |
            socat - "UNIX-CONNECT:$DEMO_RUN/haproxy.sock" |
            awk '/initial/ { w[++n] = $1 } END { if (n != 3) exit 1
                printf "%.0f\n", 10000 * w[3] / (w[1] + w[2] + w[3]) }'
    fi
}

# proof_split_is BASIS_POINTS: to within what whole weights can give.
proof_split_is() {
    local now
    now=$(proof_split) || return 1
    ((now - $1 <= 10 && $1 - now <= 10)) || {
        echo "the balancer gives the canary $now basis points, not $1"
        return 1
    }
}

# What the record says that the balancer has: "WEIGHT PENDING", the weight of an intent or nothing.
proof_recorded() {
    proof_sql "SELECT weight_bp || ' ' || coalesce((SELECT weight_bp FROM intents WHERE rollout = seq), '')
        FROM rollouts ORDER BY seq DESC LIMIT 1"
}

# A process has just died, and nobody has done anything since: the balancer has what the record says, or stable has
# everything. Only where an intent is pending may it be on its way from the one to the other.
proof_crash_is_recorded() {
    local now recorded pending low high
    now=$(proof_split) || return 1
    ((now > 0)) || return 0
    read -r recorded pending < <(proof_recorded) || true
    [[ -n ${recorded:-} ]] || {
        echo "the balancer gives the canary $now basis points, and the store knows no rollout"
        return 1
    }
    low=$recorded high=$recorded
    [[ -z $pending ]] || {
        low=$((pending < recorded ? pending : recorded))
        high=$((pending > recorded ? pending : recorded))
    }
    ((now >= low - 10 && now <= high + 10)) || {
        echo "the balancer gives the canary $now basis points; the record says $recorded, intent '$pending'"
        return 1
    }
}

proof_state() {
    proof_sql 'SELECT state FROM rollouts ORDER BY seq DESC LIMIT 1'
}

# The rollout has ended, and the balancer shows what its end means.
proof_end_is_in_force() {
    local state weight
    IFS='|' read -r state weight < <(proof_sql 'SELECT state, weight_bp FROM rollouts ORDER BY seq DESC LIMIT 1')
    case $state in
        promoted) proof_split_is "$weight" ;;
        aborted | expired | superseded)
            ((weight == 0)) && proof_split_is 0
            ;;
        *)
            echo "the rollout is $state, not at its end"
            return 1
            ;;
    esac
}

# Verdicts are numbered without a gap, every look is there once and after the one before, and each verdict has its look.
# The audit trail begins with `begun` and ends with the end; nothing is left that somebody meant to do.
proof_record_is_whole() {
    local bad
    bad=$(proof_sql "
        SELECT 'verdict ' || look || ' stands at place ' || place FROM
            (SELECT look, row_number() OVER (PARTITION BY rollout ORDER BY look) AS place FROM verdicts)
            WHERE look <> place
        UNION ALL SELECT 'verdict ' || look || ' is older than the one before' FROM
            (SELECT look, at_ms - lag(at_ms) OVER (PARTITION BY rollout ORDER BY look) AS later FROM verdicts)
            WHERE later <= 0
        UNION ALL SELECT 'verdict of no look ' || at_ms FROM verdicts AS v
            WHERE NOT EXISTS (SELECT 1 FROM looks AS l WHERE l.rollout = v.rollout AND l.at_ms = v.at_ms)
        UNION ALL SELECT 'looks overlap at ' || at_ms FROM
            (SELECT at_ms, at_ms - lag(at_ms) OVER (PARTITION BY rollout ORDER BY at_ms) AS later FROM looks)
            WHERE later < 1000
        UNION ALL SELECT 'the audit trail begins with ' || event FROM audit AS a
            WHERE event <> 'begun' AND seq = (SELECT min(seq) FROM audit WHERE rollout = a.rollout)
                AND EXISTS (SELECT 1 FROM weights WHERE rollout = a.rollout AND weight_bp > 0)
        UNION ALL SELECT id || ' is ' || state || ', and its audit trail ends with ' ||
                coalesce((SELECT event FROM audit WHERE rollout = r.seq ORDER BY seq DESC LIMIT 1), 'nothing')
            FROM rollouts AS r
            WHERE state <> coalesce((SELECT event FROM audit WHERE rollout = r.seq ORDER BY seq DESC LIMIT 1), '')
        UNION ALL SELECT 'an intent is left: ' || weight_bp FROM intents
        UNION ALL SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'")
    [[ -z $bad ]] || {
        echo "$bad"
        return 1
    }
}

# The requests that the canary has served, by its own count.
proof_served() {
    curl -fsS --noproxy '*' "http://127.0.0.1:$DEMO_CANARY1_PORT/metrics" |
        awk '$1 ~ /^http_requests_total/ { sum += $2 } END { printf "%d\n", sum }'
}

# proof_counts_are_true BEFORE ID: since its first weight the evidence has no more requests of the canary than it served
# since BEFORE.
proof_counts_are_true() {
    local served counted
    served=$(($(proof_served) - $1))
    haldane report "$2" --evidence -o "$HALDANE_DB.evidence" || return 1
    counted=$(jq '(.weights[0].from // infinite) as $begun
        | [.metrics.errors.intervals[] | select(.at > $begun) | .canary // [] | .[].requests] | add // 0' \
        "$HALDANE_DB.evidence")
    ((counted <= served)) || {
        echo "the evidence counts $counted requests of the canary, which served $served"
        return 1
    }
}

# Of all shops, orders included.
proof_failures_given() {
    local port sum=0
    for port in "$DEMO_STABLE1_PORT" "$DEMO_STABLE2_PORT" "$DEMO_CANARY1_PORT"; do
        sum=$((sum + $(curl -fsS --noproxy '*' "http://127.0.0.1:$port/metrics" |
            awk '/^http_requests_total/ && /code="500"/ { n += $2 } END { printf "%d\n", n }')))
    done
    echo "$sum"
}

# proof_nothing_lost BEFORE: the load generator, which has stopped, got an answer to every request, and the failures
# among them are those that the shops gave since BEFORE, one by one.
proof_nothing_lost() {
    local given
    given=$(($(proof_failures_given) - $1))
    jq -e --argjson given "$given" '.sent > 0 and .answered == .due and .failed == 0
        and .methods.POST.answered == .methods.POST.due and .generator.resends_prevented == 0
        and ([.status | keys[] | select(. >= "500")] - ["500"] == []) and (.status["500"] // 0) == $given' \
        "$DEMO_RUN/load.json" >/dev/null || {
        echo "requests were lost, or failed beside the $given that the shops failed:"
        jq -c '{due, sent, answered, failures, status, methods}' "$DEMO_RUN/load.json"
        return 1
    }
}

# The guards of this store: their pids.
proof_guards() {
    pgrep -f -- "haldane guard .*--db $(realpath -- "$HALDANE_DB")\$" || true
}

# proof_poll SECONDS COMMAND...: every 20 ms until it succeeds; quiet.
proof_poll() {
    local until_ms=$(($(proof_now_ms) + $1 * 1000))
    shift
    until "$@" >/dev/null 2>&1; do
        (($(proof_now_ms) < until_ms)) || return 1
        sleep 0.02
    done
}

proof_no_guards() {
    [[ -z $(proof_guards) ]]
}

# proof_clock OFFSET: $clock is what comes before a command, so that it goes by a clock that is so far off; `@FILE` in
# place of the offset is a file that says it, read again and again. The clock that nobody sets is left alone. libfaketime
# names things in /dev/shm by the process, and what was killed leaves them to whoever gets its number next.
proof_clock() {
    local file
    for file in /dev/shm/faketime_shm_* /dev/shm/sem.faketime_sem_*; do
        [[ ! -O $file || -e /proc/${file##*_} ]] || rm -f "$file"
    done
    # shellcheck disable=SC2016,SC2034 # $LIB is the loader's; the array is the caller's
    clock=(env LD_PRELOAD='/usr/$LIB/faketime/libfaketime.so.1' FAKETIME_DONT_FAKE_MONOTONIC=1)
    if [[ $1 == @* ]]; then
        clock+=(FAKETIME_TIMESTAMP_FILE="$(realpath -m -- "${1#@}")" FAKETIME_NO_CACHE=1)
    else
        clock+=(FAKETIME="$1")
    fi
}

# ---- a disk that a test can fill ----

as_root() {
    if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

# The store on a disk of its own.
small_disk() {
    mkdir small
    as_root mount -t tmpfs -o size=4m,mode=1777 haldane-test "$BATS_TEST_TMPDIR/small"
    export HALDANE_DB=$BATS_TEST_TMPDIR/small/haldane.db
}

fill_disk() {
    dd if=/dev/zero of=small/filler bs=4k 2>/dev/null || true
    dd if=/dev/zero of=small/rest bs=1 2>/dev/null || true
}

free_disk() {
    rm -f small/filler small/rest
}

no_small_disk() {
    if mountpoint -q "$BATS_TEST_TMPDIR/small"; then as_root umount "$BATS_TEST_TMPDIR/small"; fi
}
