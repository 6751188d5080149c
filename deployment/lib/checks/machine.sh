# shellcheck shell=bash
# shellcheck disable=SC2154 # settings, and what fetch sets
#
# The machine that the stack is on: disks, memory, clock, and the certificate that it shows to its users.

# --- disk ------------------------------------------------------------------------------------------------------------

plan_disk() {
    local path paths=$HEALTH_DISK_PATHS
    [[ -n $paths ]] || paths="/ /var/lib/docker $BACKUP_DIR $STATE_DIR $RECORDS_DIR"
    local -A seen=()
    for path in $paths; do
        [[ -e $path && -z ${seen[$path]:-} ]] || continue
        seen[$path]=yes
        probe disk "$path" "free space and free inodes, at least $HEALTH_DISK_WARN %" check_disk "$path"
    done
}

check_disk() {
    local path=$1 size free inodes inodes_free space=100 files=100 lowest
    read -r size free inodes inodes_free < <(df --output=size,avail,itotal,iavail -B1024 -- "$path" | tail -n 1)
    ((size == 0)) || space=$((free * 100 / size))
    [[ $inodes == - || $inodes == 0 ]] || files=$((inodes_free * 100 / inodes)) # some file systems count no inodes
    lowest=$((space < files ? space : files))
    if ((lowest < HEALTH_DISK_FAIL)); then
        bad "$path" "only $space % free ($((free / 1024)) MiB), $files % of the inodes" "$(disk_hint)"
    elif ((lowest < HEALTH_DISK_WARN)); then
        warn "$path" "only $space % free ($((free / 1024)) MiB), $files % of the inodes" "$(disk_hint)"
    else
        ok "$path" "$space % free, $files % of the inodes"
    fi
}

disk_hint() {
    printf 'du -xh PATH | sort -h | tail; old images: docker image prune; old backups: deployment/backup.sh prune\n'
}

# --- memory ----------------------------------------------------------------------------------------------------------

plan_memory() {
    probe memory "$(uname -n)" "memory that programs can still have, at least $HEALTH_MEMORY_WARN %" check_memory
}

check_memory() {
    local key value _ all=0 left=0 share target
    target=$(uname -n)
    while read -r key value _; do
        case $key in
            MemTotal:) all=$value ;;
            MemAvailable:) left=$value ;;
        esac
    done </proc/meminfo
    ((all > 0)) || { unsure "$target" "the kernel does not say how much there is" && return; }
    share=$((left * 100 / all))
    if ((share < HEALTH_MEMORY_FAIL)); then
        bad "$target" "only $share % left ($((left / 1024)) MiB)" "ps -eo rss,pid,args --sort=-rss | head"
    elif ((share < HEALTH_MEMORY_WARN)); then
        warn "$target" "only $share % left ($((left / 1024)) MiB)" "ps -eo rss,pid,args --sort=-rss | head"
    else
        ok "$target" "$share % left ($((left / 1024)) MiB)"
    fi
}

# --- clock -----------------------------------------------------------------------------------------------------------

# Prometheus stamps the samples by its clock and the balancer ends a lease by its own: looks and leases need them close.
plan_clock() {
    ! there "$PROMETHEUS_URL" || probe clock prometheus "its time() against this machine's clock" check_clock_prometheus
    ! there "$OPS_URL" || probe clock balancer \
        "the time on its page /haldane/share against this machine's clock" check_clock_balancer
}

check_clock_prometheus() {
    local body before after theirs
    body=$(probe_file body)
    before=${EPOCHREALTIME/[.,]/}
    fetch "$PROMETHEUS_URL/api/v1/query?query=time()" "$body" || { clock_unknown prometheus && return; }
    after=${EPOCHREALTIME/[.,]/}
    theirs=$(jq -r '.data.result[1] | tonumber * 1000 | floor' "$body" 2>/dev/null) || { clock_unknown prometheus &&
        return; }
    judge_clock prometheus "$theirs" $((before / 1000)) $((after / 1000))
}

check_clock_balancer() {
    local body before after page
    body=$(probe_file body)
    before=${EPOCHREALTIME/[.,]/}
    fetch "$OPS_URL/haldane/share" "$body" || { clock_unknown balancer && return; }
    after=${EPOCHREALTIME/[.,]/}
    page=$(<"$body")
    [[ $page =~ (^|\ )now=([0-9]+) ]] || { clock_unknown balancer && return; }
    # The page has whole seconds: the true time is up to one later.
    judge_clock balancer $((BASH_REMATCH[2] * 1000)) $((before / 1000 - 1000)) $((after / 1000))
}

clock_unknown() {
    unsure "$1" "it does not tell its time" "see the checks 'prometheus' and 'balancer'"
}

# judge_clock TARGET THEIRS EARLIEST LATEST, in milliseconds: what lies between the two is no difference.
judge_clock() {
    local target=$1 theirs=$2 earliest=$3 latest=$4 off=0 apart
    if ((theirs < earliest)); then
        off=$((theirs - earliest))
    elif ((theirs > latest)); then
        off=$((theirs - latest))
    fi
    apart=${off#-}
    if ((apart > $(duration_ms "$HEALTH_CLOCK_FAIL"))); then
        bad "$target" "its clock is $off ms off this machine's" "timedatectl, chronyc tracking: which one is wrong?"
    elif ((apart > $(duration_ms "$HEALTH_CLOCK_WARN"))); then
        warn "$target" "its clock is $off ms off this machine's" "timedatectl, chronyc tracking: which one is wrong?"
    else
        ok "$target" "its clock agrees, within $((latest - earliest)) ms"
    fi
}

# --- certificate -----------------------------------------------------------------------------------------------------

plan_certificate() {
    local file=${CERTIFICATE_FILE:-$SECRETS_DIR/tls.pem} limits="at least $CERTIFICATE_WARN_DAYS days left"
    there "$SHOP_TLS_URL" || return 0
    [[ -z $CERTIFICATE_FILE && ! -e $file ]] || probe certificate "$file" "$limits" check_certificate_file "$file"
    probe certificate "$SHOP_TLS_URL" "as it is served: $limits; the same as the file" check_certificate_served "$file"
}

check_certificate_file() {
    local file=$1 ends
    if ! ends=$(certificate_end <"$file"); then
        bad "$file" "no certificate can be read from it" "it must hold the certificate in PEM, then its key"
        return
    fi
    judge_certificate "$file" "$ends" ''
}

check_certificate_served() {
    local file=$1 served ends place note=''
    served=$(probe_file pem)
    place=${SHOP_TLS_URL#https://}
    place=${place%%/*}
    [[ $place =~ :[0-9]+$ ]] || place+=:443
    openssl s_client -connect "$place" -servername "${place%:*}" </dev/null 2>/dev/null |
        openssl x509 >"$served" 2>/dev/null || true
    if ! ends=$(certificate_end <"$served"); then
        bad "$SHOP_TLS_URL" "no certificate is served" "is the balancer running, and is this its port for TLS?"
        return
    fi
    if [[ -r $file && $(certificate_print <"$file") != "$(certificate_print <"$served")" ]]; then
        note="it is not the one in $file"
    fi
    judge_certificate "$SHOP_TLS_URL" "$ends" "$note"
}

# In Unix seconds.
certificate_end() {
    local text
    text=$(openssl x509 -noout -enddate 2>/dev/null) && date -u -d "${text#notAfter=}" +%s
}

certificate_print() {
    openssl x509 -noout -fingerprint -sha256 2>/dev/null
}

judge_certificate() {
    local target=$1 ends=$2 note=$3 days
    days=$(((ends - EPOCHSECONDS) / 86400))
    if ((ends <= EPOCHSECONDS)); then
        bad "$target" "it has expired${note:+; $note}" \
            "get a new one, put it in place, reload the balancer in a quiet hour"
    elif ((days < CERTIFICATE_FAIL_DAYS)); then
        bad "$target" "it ends in $days days${note:+; $note}" \
            "get a new one, put it in place, reload the balancer in a quiet hour"
    elif ((days < CERTIFICATE_WARN_DAYS)); then
        warn "$target" "it ends in $days days${note:+; $note}" \
            "get a new one, put it in place, reload the balancer in a quiet hour"
    elif [[ -n $note ]]; then
        warn "$target" "$days days left, but $note" "the balancer has not read the new file: reload it in a quiet hour"
    else
        ok "$target" "$days days left"
    fi
}
