#!/usr/bin/env bash
#
# Backups of the database that are known to be good: a dump, a manifest of what must be in it, and the proof by a real
# restore into a server made for it. (`pg_restore --list` is no proof: it accepts a dump that is truncated or corrupt.)
#
# In BACKUP_DIR, for each backup: NAME.dump (pg_dump -Fc), NAME.json (the manifest: size, SHA-256, rows of each table,
# counted in the very snapshot that was dumped), NAME.verified.json (when the last restore succeeded). A name is given
# only to what is whole and on the disk.
# shellcheck disable=SC2154 # the settings are lib/config.sh's
# shellcheck disable=SC2317 # what a trap calls
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
for part in log duration config options compose places; do
    # shellcheck source=/dev/null
    source "$here/lib/$part.sh"
done

command=''
name=''
config=''
format=text
max_age=''
keep=''
replace=''
assume_yes=''
no_verify=''
dry_run=''
scratch=''
worker=''     # process group of what takes long
half_made=''  # a database that is being restored beside another one
unfinished=() # files to be removed if we end before they have their names

usage() {
    cat <<'END_OF_HELP'
usage: backup.sh COMMAND [OPTION]...

  create                  dumps the database, and writes down what must be in the dump
  verify [NAME]           restores a backup (default: the newest) into a throw-away server and counts its rows
  list                    all backups, newest first
  restore NAME            brings a backup back, after it was verified; into an empty database, unless --replace
  prune                   removes all but the newest; of those verified the newest stays in any case

  --max-age DURATION      verify: older than this is not good enough
  --keep N                prune: how many stay (default: BACKUP_KEEP)
  --replace               restore: the database has something in it. It is restored beside it and takes its place in one
                          step, by a new name; the old one is kept as NAME_before_TIME
  --no-verify             restore: without verifying first
  --yes                   restore, prune: do not ask
  --format text|json      lines for people (default), or JSON
  --config FILE           the settings that differ from deployment.conf
  --dry-run               say what would be done; change nothing
  --help                  this page

Exit codes: 0 done, good; 1 the backup is not good: corrupt, incomplete, or too old; 64 wrong usage; 65 wrong
configuration; 66 no such backup; 69 the database or the throw-away server cannot be reached; 70 a fault; 74 the disk is
full, or not writable; 75 another backup.sh is at work, or the database is not empty; 77 not confirmed, not allowed.
END_OF_HELP
}

takes value --max-age --keep --format --config
takes flag --replace --no-verify --yes --dry-run

take_option() {
    local option=$1 value=$2
    case $option in
        --max-age)
            needs_duration "$@"
            max_age=$(duration_seconds "$value")
            ;;
        --keep)
            needs_number "$@" 9999
            keep=$value
            ;;
        --replace) replace=$value ;;
        --no-verify) no_verify=$value ;;
        --yes) assume_yes=$value ;;
        --format)
            needs_one_of "$@" text json
            format=$value
            ;;
        --config) config=$value ;;
        --dry-run) dry_run=$value ;;
    esac
}

take_argument() {
    if [[ -z $command ]]; then
        [[ $1 =~ ^(create|verify|list|restore|prune)$ ]] || usage_error "there is no command '$1'"
        command=$1
    elif [[ -z $name && $command =~ ^(verify|restore)$ ]]; then
        name=${1##*/}
        name=${name%.dump}
    else
        usage_error "unexpected argument '$1'"
    fi
}

check_usage() {
    [[ -n $command ]] || usage_error "a command is missing"
    [[ $command == verify || -z $max_age ]] || usage_error "--max-age is of verify"
    [[ $command == prune || -z $keep ]] || usage_error "--keep is of prune"
    [[ $command == restore || -z $replace$no_verify ]] || usage_error "--replace and --no-verify are of restore"
    [[ $command != restore || -n $name ]] || usage_error "restore needs the name of a backup; see backup.sh list"
}

load_settings() {
    config_load "$config"
    keep=${keep:-$BACKUP_KEEP}
    [[ $keep =~ ^[1-9][0-9]{0,3}$ ]] || config_wrong BACKUP_KEEP "write a number from 1 to 9999"
    inside_limit=$(duration_seconds "$BACKUP_TIMEOUT") || config_wrong BACKUP_TIMEOUT "write a duration such as 30m"
    database_there || fail 65 "the settings name no database: see DATABASE_COMMAND"
    need jq flock sha256sum dd timeout
    [[ -n $DATABASE_COMMAND ]] || engine_ready || fail 69 "the Docker engine does not answer; is DOCKER_HOST right?"
}

# --- Files and locks -------------------------------------------------------------------------------------------------

open_folder() {
    [[ -d $BACKUP_DIR ]] || mkdir -p -- "$BACKUP_DIR" 2>/dev/null || fail 74 "the folder '$BACKUP_DIR' cannot be made"
    scratch=$(mktemp -d) || fail 74 "no temporary directory can be made"
}

# Two locks: one who writes to the database or the folder at a time, and nobody who removes what another reads.
lock_work() {
    { exec 9>>"$BACKUP_DIR/.work.lock"; } 2>/dev/null || fail 74 "nothing can be written to '$BACKUP_DIR'"
    flock -n 9 || fail 75 "another backup.sh creates or restores a backup in '$BACKUP_DIR'"
}

# lock_files shared|exclusive
lock_files() {
    { exec 8>>"$BACKUP_DIR/.files.lock"; } 2>/dev/null || fail 74 "nothing can be written to '$BACKUP_DIR'"
    flock -n "--$1" 8 || fail 75 "another backup.sh reads or removes backups in '$BACKUP_DIR'"
}

# Names of all backups of this project, newest first. One without a manifest is none: whoever made it did not come to
# the end. Another stack's may be in the same folder, and have a name that begins like ours.
all_names() {
    local file
    for file in "$BACKUP_DIR/$PROJECT"-*.dump; do
        file=${file%.dump}
        [[ ! $file =~ /"$PROJECT"-[0-9]{8}T[0-9]{6}Z$ || ! -r $file.json ]] || printf '%s\n' "${file##*/}"
    done | sort -r
}

newest_name() {
    local names
    mapfile -t names < <(all_names)
    ((${#names[@]} > 0)) && printf '%s\n' "${names[0]}"
}

# manifest NAME EXPRESSION: prints it; nothing if the manifest is damaged.
manifest() {
    jq -r "$2 // empty" "$BACKUP_DIR/$1.json" 2>/dev/null || true
}

# write_json NAME SUFFIX: stdin becomes the file in one step, when it is on the disk.
write_json() {
    local file=$BACKUP_DIR/$1.$2 new=$BACKUP_DIR/.new-$1.$2
    unfinished+=("$new")
    { cat >"$new" && sync -- "$new" && mv -f -- "$new" "$file" && sync -- "$BACKUP_DIR"; } 2>/dev/null ||
        fail 74 "'$file' cannot be written: is the disk full?"
}

# --- create ----------------------------------------------------------------------------------------------------------

create() {
    local stamp began=$EPOCHSECONDS file new
    lock_work
    TZ=UTC printf -v stamp '%(%Y%m%dT%H%M%SZ)T' -1
    name=$PROJECT-$stamp file=$BACKUP_DIR/$PROJECT-$stamp.dump new=$BACKUP_DIR/.new-$PROJECT-$stamp.dump
    [[ ! -e $file ]] || fail 75 "there is a backup '$name' already; they are named by the second"
    enough_space
    unfinished+=("$new")
    dump_snapshot "$new"
    # Read from end to end: what the connection lost on its way is found now, and not on the day of need.
    interruptible database pg_restore -f /dev/null <"$new" 2>"$scratch/error" ||
        fail 70 "the dump cannot be read: $(last_line "$scratch/error")"
    describe_backup "$new" $((EPOCHSECONDS - began)) >"$scratch/manifest"
    mv -- "$new" "$file" || fail 74 "'$file' cannot be written"
    unfinished+=("$file")
    write_json "$name" json <"$scratch/manifest"
    unfinished=()
    textfile
    show_created
    copy_elsewhere
}

# Better found out before than after an hour.
enough_space() {
    local before need free
    before=$(newest_name) || return 0
    need=$(manifest "$before" .size)
    free=$(df --output=avail -B1 -- "$BACKUP_DIR" | tail -n 1)
    ((free > ${need:-0})) ||
        fail 74 "'$BACKUP_DIR' has $((free / 1048576)) MiB free, and the last backup has $((need / 1048576)) MiB;" \
            "make room (backup.sh prune)"
}

# The dump and the counts are of one snapshot: a session of psql holds it open meanwhile.
dump_snapshot() {
    local new=$1 snapshot='' line states asked told
    mkfifo "$scratch/asked"
    exec {asked}<>"$scratch/asked"
    # It gives up our end of what it reads from: it must end when we do, however we do.
    exec {told}< <(
        exec {asked}>&-
        database psql -XAtq -v ON_ERROR_STOP=1 <"$scratch/asked" 2>"$scratch/holder"
    )
    printf 'begin isolation level repeatable read read only;\nselect pg_export_snapshot();\n' >&"$asked"
    read -r -t 60 -u "$told" snapshot || fail 69 "the database cannot be asked: $(last_line "$scratch/holder")"
    { cat -- "$here/lib/rows.sql" && printf 'show server_version;\n\\echo end\n'; } >&"$asked"
    : >"$scratch/rows"
    while read -r -t "$inside_limit" -u "$told" line && [[ $line != end ]]; do
        printf '%s\n' "$line" >>"$scratch/rows"
    done
    [[ ${line:-} == end ]] || fail 69 "the rows cannot be counted: $(last_line "$scratch/holder")"
    interruptible dump_to "$new" "$snapshot"
    states=$(<"$scratch/states")
    printf '\\q\n' >&"$asked"
    exec {asked}>&- {told}<&-
    [[ $states == *' 0' ]] || fail 74 "the dump cannot be written: $(last_line "$scratch/disk"); nothing is left of it"
    [[ $states == '0 0' ]] || fail 69 "pg_dump failed (exit code ${states% *}): $(last_line "$scratch/error")"
    # The last line is the server's version.
    (($(wc -l <"$scratch/rows") > 1)) || fail 65 "the database has no table: $no_table; nothing was kept"
}

dump_to() {
    local states='0 0'
    database pg_dump --format=custom --lock-wait-timeout=60s "--snapshot=$2" 2>"$scratch/error" </dev/null |
        dd "of=$1" bs=1M iflag=fullblock conv=fsync,excl status=none 2>"$scratch/disk" || states="${PIPESTATUS[*]}"
    printf '%s\n' "$states" >"$scratch/states"
}

# A backup of nothing would be good, and in time the only one that is left.
no_table="is it the right database, and is its volume still there?"

# interruptible COMMAND...: what takes long. A signal ends it, with all that it started, and not only us.
interruptible() {
    local status=0
    set -m
    "$@" <&0 & # or else a shell may give it an empty stdin
    worker=$!
    set +m
    wait "$worker" || status=$?
    worker=''
    return "$status"
}

last_line() {
    tail -n 1 -- "$1" 2>/dev/null || true
}

describe_backup() {
    local new=$1 seconds=$2 sum
    sum=$(sha256sum <"$new") || fail 74 "the dump cannot be read back"
    jq -n -R --arg name "$name" --arg project "$PROJECT" --arg sum "${sum%% *}" --argjson size \
        "$(stat -c %s -- "$new")" \
        --argjson seconds "$seconds" '[inputs] as $lines | {
            schema: "haldane.backup/1", $name, $project, created: (now | todate), $seconds, file: "\($name).dump",
            $size, sha256: $sum, server: $lines[-1],
            rows: ($lines[:-1] | map(fromjson | {key: .table, value: .rows}) | from_entries)
        }' "$scratch/rows"
}

show_created() {
    if [[ $format == json ]]; then
        cat -- "$BACKUP_DIR/$name.json"
    else
        jq -r '([.rows[]] | add // 0) as $rows
            | "created \(.name): \(.size) bytes, \(.rows | length) tables, \($rows) rows, in \(.seconds) s"' \
            "$BACKUP_DIR/$name.json"
    fi
}

# A backup on the same machine is lost with it.
copy_elsewhere() {
    [[ -n $BACKUP_COPY_COMMAND ]] || return 0
    bash -c "$BACKUP_COPY_COMMAND" copy "$BACKUP_DIR/$name.dump" "$BACKUP_DIR/$name.json" >&2 </dev/null ||
        fail 74 "the backup is here, but BACKUP_COPY_COMMAND failed"
}

# For node-exporter, where the stack has one: how old the newest backup is, and the newest that was verified.
textfile() {
    local newest verified='' new
    [[ -d $TEXTFILE_DIR && -w $TEXTFILE_DIR ]] && newest=$(newest_name) || return 0
    verified=$(newest_verified) || true
    new=$TEXTFILE_DIR/.haldane_backup.$$
    {
        gauge created_timestamp_seconds "When the newest backup was made." "$(manifest "$newest" '.created | fromdate')"
        gauge bytes "How large it is." "$(manifest "$newest" .size)"
        [[ -z $verified ]] || gauge verified_timestamp_seconds \
            "When the newest backup was made that a real restore has proven." \
            "$(manifest "$verified" '.created | fromdate')"
    } >"$new" || true
    if ! chmod 0644 "$new" || ! mv -f -- "$new" "$TEXTFILE_DIR/haldane_backup.prom"; then
        log "warning: no metrics of the backups were written to '$TEXTFILE_DIR'"
    fi
}

# gauge NAME HELP VALUE
gauge() {
    [[ $3 =~ ^[0-9]+$ ]] || return 0
    printf '# HELP haldane_backup_%s %s\n# TYPE haldane_backup_%s gauge\n' "$1" "$2" "$1"
    printf 'haldane_backup_%s %s\n' "$1" "$3"
}

# --- verify ----------------------------------------------------------------------------------------------------------

choose() {
    name=${name:-$(newest_name)} || fail "${1:-66}" "there is no backup in '$BACKUP_DIR'; backup.sh create makes one"
    [[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ && -r $BACKUP_DIR/$name.json ]] ||
        fail 66 "there is no backup '$name' in '$BACKUP_DIR'"
}

verify() {
    local began=$EPOCHSECONDS reason='' age
    choose 1
    lock_files shared
    age=$(manifest "$name" 'now - (.created | fromdate) | floor')
    if [[ -n $max_age && -n $age ]] && ((age > max_age)); then
        reason="it is $age s old, older than $max_age s"
        tell_verification
        return 1
    fi
    # Or a clock that was once wrong would make it the newest, and young, for ever.
    if [[ -n $age ]] && ((age < -60)); then
        reason="it was made $((-age)) s from now: a clock is or was wrong; remove it if it is this machine's of then"
    else
        find_fault
    fi
    if [[ -z $reason ]]; then
        jq -n --arg sum "$(manifest "$name" .sha256)" --argjson seconds $((EPOCHSECONDS - began)) \
            '{schema: "haldane.backup-verified/1", time: (now | todate), $seconds, sha256: $sum}' |
            write_json "$name" verified.json
        textfile
    else
        rm -f -- "$BACKUP_DIR/$name.verified.json"
    fi
    tell_verification
    [[ -z $reason ]]
}

# $scratch/verification is the answer, also for restore.
tell_verification() {
    jq -nR --rawfile manifest "$BACKUP_DIR/$name.json" --arg name "$name" --arg reason "$reason" \
        --argjson seconds $((EPOCHSECONDS - began)) '($manifest | fromjson? // {}) as $m | {
            schema: "haldane.backup-verification/1", $name,
            status: (if $reason == "" then "good" else "bad" end), $reason,
            created: $m.created, age_seconds: ($m.created | try (now - fromdate | floor) catch null), $seconds,
            size: $m.size, rows: $m.rows }' >"$scratch/verification"
    [[ $command == verify ]] || return 0
    if [[ $format == json ]]; then
        cat -- "$scratch/verification"
    else
        jq -r 'if .status == "good"
            then "\(.name) is good: restored in \(.seconds) s, \(.rows | length) tables, "
                + "\([.rows[]] | add // 0) rows, \(.age_seconds) s old"
            else "\(.name) is NOT good: \(.reason)" end' "$scratch/verification"
    fi
}

# Puts into `reason` what is wrong with the backup. Ends with 69 if that cannot be found out.
find_fault() {
    local file=$BACKUP_DIR/$name.dump sum size status=0
    if ! jq -es '.[0] | .schema == "haldane.backup/1" and (.rows | type == "object") and .sha256
        and (.created | fromdate)' "$BACKUP_DIR/$name.json" >/dev/null 2>&1; then
        reason="its manifest is damaged"
        return
    fi
    if [[ $(manifest "$name" '.rows | length') == 0 ]]; then
        reason="it has no table: $no_table"
        return
    fi
    size=$(stat -c %s -- "$file")
    if [[ $size != "$(manifest "$name" .size)" ]]; then
        reason="the dump has $size bytes, and not $(manifest "$name" .size) as when it was made"
    elif ! sum=$(sha256sum <"$file"); then
        reason="the dump cannot be read"
    elif [[ ${sum%% *} != "$(manifest "$name" .sha256)" ]]; then
        reason="the dump is not what was written: its SHA-256 differs"
    else
        interruptible restore_to_scratch <"$file" >"$scratch/restored" 2>"$scratch/error" || status=$?
        judge_restore "$status"
    fi
}

judge_restore() {
    case $1 in
        0) reason=$(compare_rows "$scratch/restored") || reason="its rows cannot be compared with the manifest" ;;
        4) reason="it cannot be restored: $(restore_error)" ;;
        5) reason="its rows cannot be counted: $(last_line "$scratch/error")" ;;
        124 | 137) fail 69 "the restore was not through after $BACKUP_TIMEOUT, or was killed" ;;
        *) fail 69 "no throw-away server for the restore (exit code $1): $(restore_error)" ;;
    esac
}

# The first line is the cause, what comes after it follows from it.
restore_error() {
    grep -m 1 -i error -- "$scratch/error" || last_line "$scratch/error"
}

# The dump is on stdin.
restore_to_scratch() {
    local script rows image
    script=$(<"$here/lib/scratch-restore.sh") rows=$(<"$here/lib/rows.sql")
    if [[ -n $SCRATCH_COMMAND ]]; then
        run_setting "timeout --foreground -k 5 $inside_limit $SCRATCH_COMMAND" bash -c "$script" scratch "$rows"
        return
    fi
    image=$(docker inspect --format '{{.Image}}' "$(container postgres)") || return 69
    docker run --rm --interactive --network none --read-only --cap-drop ALL --security-opt no-new-privileges \
        --tmpfs "/tmp:size=$SCRATCH_SIZE,mode=1777" --memory "$SCRATCH_MEMORY" --pids-limit 128 --no-healthcheck \
        --label "haldane.project=$PROJECT" --entrypoint timeout "$image" -k 5 "$inside_limit" bash -c \
        "$script" scratch "$rows"
}

compare_rows() {
    jq -rn --slurpfile manifest "$BACKUP_DIR/$name.json" --slurpfile rows "$1" '
        ($rows | map({key: .table, value: .rows}) | from_entries) as $is | $manifest[0].rows as $was
        | [($was + $is | keys[]) | select($was[.] != $is[.])
            | "\(.) has \($is[.] // "no") rows instead of \($was[.] // "none")"]
        | if . == [] then empty else join(", ") end'
}

# --- list and prune --------------------------------------------------------------------------------------------------

# Verified, and not changed since.
is_verified() {
    [[ -r $BACKUP_DIR/$1.verified.json &&
        $(jq -r .sha256 "$BACKUP_DIR/$1.verified.json") == "$(manifest "$1" .sha256)" ]]
}

newest_verified() {
    local one
    while IFS= read -r one; do
        if is_verified "$one"; then
            printf '%s\n' "$one"
            return 0
        fi
    done < <(all_names)
    return 1
}

list() {
    local one
    all_names | while IFS= read -r one; do
        jq -c --arg verified "$(! is_verified "$one" || jq -r .time "$BACKUP_DIR/$one.verified.json")" '
            . + {verified: (if $verified == "" then null else $verified end)}' "$BACKUP_DIR/$one.json" ||
            log "warning: the manifest of '$one' is damaged"
    done >"$scratch/list"
    if [[ $format == json ]]; then
        jq -s '{schema: "haldane.backups/1", backups: .}' "$scratch/list"
    else
        jq -r '"\(.name)  \(.created)  \(.size) bytes  \([.rows[]] | add // 0) rows  "
            + if .verified then "verified \(.verified)" else "not verified" end' \
            "$scratch/list"
    fi
}

prune() {
    local names verified one doomed=()
    lock_work
    lock_files exclusive
    mapfile -t names < <(all_names)
    verified=$(newest_verified) || verified=''
    for one in "${names[@]:keep}"; do
        [[ $one == "$verified" ]] || doomed+=("$one")
    done
    if [[ -n $dry_run ]]; then
        ((${#doomed[@]} == 0)) || printf 'Would remove %s\n' "${doomed[@]}"
        exit 0
    fi
    ((${#doomed[@]} == 0)) || confirm "Remove ${#doomed[@]} of ${#names[@]} backups?"
    for one in "${doomed[@]}"; do
        # The manifest first: without it, the rest is no backup any more.
        rm -f -- "$BACKUP_DIR/$one.json" "$BACKUP_DIR/$one.verified.json" "$BACKUP_DIR/$one.dump"
    done
    rm -f -- "$BACKUP_DIR"/.new-* # of runs that were killed; the lock says that there is none now
    tell_removed "${doomed[@]}"
}

tell_removed() {
    if [[ $format == json ]]; then
        jq -n '{schema: "haldane.backups-removed/1", removed: $ARGS.positional}' --args "$@"
    elif (($# > 0)); then
        printf 'removed %s\n' "$@"
    fi
}

confirm() {
    local reply=''
    [[ -z $assume_yes ]] || return 0
    [[ -t 0 && -t 2 ]] || fail 77 "not confirmed: --yes says so where nobody can be asked; nothing was changed"
    read -r -p "$1 [y/N] " reply || true
    [[ $reply == [yY] || $reply == [yY][eE][sS] ]] || fail 77 "not confirmed; nothing was changed"
}

# --- restore ---------------------------------------------------------------------------------------------------------

restore() {
    local tables database
    choose
    lock_work
    if [[ -z $no_verify ]]; then
        log "verifying $name"
        verify || fail 1 "$name is not good: $(jq -r .reason "$scratch/verification")"
    fi
    lock_files shared
    database=$(ask_database -c 'select current_database()') || database_unreachable
    tables=$(ask_database -c "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and n.nspname !~ '^pg_'
            and n.nspname <> 'information_schema'") ||
        database_unreachable
    if ((tables > 0)) && [[ -z $replace ]]; then
        fail 75 "the database '$database' is not empty ($tables tables and the like);" \
            "--replace puts the backup in its place"
    fi
    if ((tables == 0)); then
        confirm "Restore $name into the empty database '$database'?"
        restore_into "$database"
    else
        confirm "Put $name in the place of the database '$database' ($tables tables and the like)?"
        restore_beside "$database"
    fi
    log "restored $name to the database '$database'"
    log "what is cached may not be true any more: it ends by itself, or at once with FLUSHDB"
    [[ $format != json ]] || jq -n --arg name "$name" --arg database "$database" --arg kept "${kept:-}" \
        '{schema: "haldane.backup-restored/1", $name, $database, kept: (if $kept == "" then null else $kept end)}'
}

ask_database() {
    database psql -XAtq -v ON_ERROR_STOP=1 "$@" 2>"$scratch/error"
}

database_unreachable() {
    fail 69 "the database cannot be asked: $(last_line "$scratch/error")"
}

# All or nothing, and the rows are counted before anybody is told that it worked.
restore_into() {
    local database=$1 reason
    interruptible database pg_restore --exit-on-error --single-transaction -d "$database" <"$BACKUP_DIR/$name.dump" \
        2>"$scratch/error" ||
        fail 70 "the restore failed and nothing of it remains: $(restore_error)"
    ask_database -d "$database" -c analyze || log "warning: no statistics were gathered: $(last_line "$scratch/error")"
    ask_database -d "$database" <"$here/lib/rows.sql" >"$scratch/restored" || database_unreachable
    reason=$(compare_rows "$scratch/restored") || fail 70 "restored, but the rows cannot be compared with the manifest"
    [[ -z $reason ]] || fail 70 "restored, but it is not what was backed up: $reason"
}

# Into a database of another name, which then takes the place of the old one. Until that moment users notice nothing,
# and the old one is kept.
restore_beside() {
    local database=$1 stamp new
    TZ=UTC printf -v stamp '%(%Y%m%d%H%M%S)T' -1
    new=${database}_restored_$stamp kept=${database}_before_$stamp
    if ! ask_database -v new="$new" -v like="$database" <<'SQL'; then
select format('create database %I owner %I template template0 encoding %L lc_collate %L lc_ctype %L', :'new',
        pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype)
    from pg_database where datname = :'like' \gexec
SQL
        fail 77 "no database can be made: $(last_line "$scratch/error")"
    fi
    half_made=$new
    if ! (restore_into "$new"); then
        fail 70 "the database '$database' is as it was"
    fi
    ask_database -d postgres -v now="$database" -v new="$new" -v kept="$kept" <<'SQL' || swap_failed "$database" "$new"
alter database :"now" with allow_connections false;
select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = :'now';
begin;
alter database :"now" rename to :"kept";
alter database :"new" rename to :"now";
commit;
alter database :"kept" with allow_connections true;
SQL
    half_made=''
    log "the old database is kept as '$kept'; when it is not needed any more: drop database \"$kept\""
}

swap_failed() {
    local database=$1 new=$2 error
    error=$(last_line "$scratch/error")
    half_made=''
    ask_database -d postgres -v now="$database" <<<'alter database :"now" with allow_connections true;' || true
    fail 70 "the restored database '$new' could not take the place of '$database', which is as it was: $error"
}

# --- The whole -------------------------------------------------------------------------------------------------------

print_plan() {
    case $command in
        create) printf 'Would dump the database to %s, with a manifest of its rows.\n' "$BACKUP_DIR" ;;
        verify) printf 'Would restore %s into a throw-away server and count its rows.\n' \
            "${name:-$(newest_name || echo 'the newest backup')}" ;;
        restore)
            choose
            printf 'Would verify %s and restore it%s.\n' "$name" \
                "${replace:+ in the place of what the database has now}"
            ;;
    esac
}

clean_up() {
    local file
    [[ -z $worker ]] || kill -TERM -- "-$worker" 2>/dev/null || true
    [[ -z $half_made ]] || ask_database -v new="$half_made" <<<'drop database if exists :"new" with (force);' || true
    for file in "${unfinished[@]}"; do
        rm -f -- "$file"
    done
    [[ -z $scratch ]] || rm -rf -- "$scratch"
}

main() {
    local kept=''
    umask 077
    options_read "$@"
    check_usage
    load_settings
    if [[ -n $dry_run && $command != list && $command != prune ]]; then
        print_plan
        exit 0
    fi
    open_folder
    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    case $command in
        verify) verify || exit 1 ;;
        *) "$command" ;;
    esac
}

{
    main "$@"
    exit
}
