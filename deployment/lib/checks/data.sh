# shellcheck shell=bash
# shellcheck disable=SC2154 # settings
#
# The database and the cache: not only whether they listen, but whether they do their work.

plan_database() {
    database_there || return 0
    probe database postgres "'$DATABASE_QUERY', connections taken, whether it takes writes" check_database
}

check_database() {
    local answer error
    error=$(probe_file error)
    if answer=$(database env PGCONNECT_TIMEOUT=5 psql -XAtq -v ON_ERROR_STOP=1 -v VERBOSITY=terse \
        -c "set statement_timeout = '5s'" -c "$DATABASE_QUERY" -c "
        select json_build_object('taken', (select count(*) from pg_stat_activity where backend_type = 'client backend'),
            'most', current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
            'read_only', current_setting('transaction_read_only') = 'on')" 2>"$error"); then
        judge_database "${answer##*$'\n'}"
    else
        explain_database "$(tail -n 1 -- "$error")"
    fi
}

# Whether it is the server or the query.
explain_database() {
    local status=0 state=healthy
    [[ -n $DATABASE_COMMAND ]] || state=$(container_state postgres)
    if [[ $state == exited || $state == absent || $state == restarting ]]; then
        bad postgres "its container does not run: $state" "deployment/stack.sh up; deployment/stack.sh logs postgres"
        return
    fi
    database pg_isready -q -t 2 || status=$?
    case $status in
        0) bad postgres "the query fails: $1" "deployment/stack.sh logs postgres; see DATABASE_QUERY" ;;
        1) bad postgres "it refuses connections: it starts, stops or recovers" "deployment/stack.sh logs postgres" ;;
        2) bad postgres "it does not answer: $1" "is it running? deployment/stack.sh logs postgres" ;;
        *) bad postgres "it cannot be asked: $1" "is it running? see DATABASE_COMMAND" ;;
    esac
}

judge_database() {
    local taken most read_only
    read -r taken most read_only < <(jq -r '"\(.taken) \(.most) \(.read_only)"' <<<"$1")
    if [[ $read_only == true ]]; then
        bad postgres "it takes no writes" "it is a standby, or default_transaction_read_only is on"
    elif ((taken * 100 >= most * HEALTH_CONNECTIONS_WARN)); then
        warn postgres "$taken of $most connections are taken" \
            "select state, query from pg_stat_activity; look for who holds them"
    else
        ok postgres "accepts connections and answers, $taken of $most connections taken"
    fi
}

plan_cache() {
    cache_there || return 0
    probe cache redis "PING; writes a key, reads it back, removes it" check_cache
}

check_cache() {
    local key value answer
    key=haldane:health:$$:$RANDOM value=$RANDOM$RANDOM
    if ! answer=$(printf 'PING\nSET %s %s EX 10\nGET %s\nDEL %s\n' "$key" "$value" "$key" "$key" | cache 2>&1); then
        bad redis "it does not answer: ${answer##*$'\n'}" "is it running? see its log"
        return
    fi
    mapfile -t answer <<<"$answer"
    if [[ ${answer[0]} != PONG ]]; then
        bad redis "it does not answer PING: ${answer[0]}" "is it running, does it still load, is the password right?"
    elif [[ ${answer[1]:-} != OK || ${answer[2]:-} != "$value" ]]; then
        bad redis "a key written is not read back: ${answer[1]:-}" "is its memory full (maxmemory), or its disk?"
    else
        ok redis "PONG; a key was written and read back"
    fi
}
