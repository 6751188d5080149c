# shellcheck shell=bash
# shellcheck disable=SC2154 # settings
#
# Checks of the user's own: every program in a folder. What they say by exit code and first line is what Nagios and its
# many children have agreed on, so that their plugins can be used as they are.

plan_plugins() {
    local file
    [[ -n $HEALTH_PLUGINS_DIR ]] || return 0
    [[ -d $HEALTH_PLUGINS_DIR ]] || fail 66 "HEALTH_PLUGINS_DIR: there is no folder '$HEALTH_PLUGINS_DIR'"
    for file in "$HEALTH_PLUGINS_DIR"/*; do
        [[ -f $file && -x $file ]] || continue
        probe plugins "${file##*/}" "runs $file" check_plugin "$file"
    done
}

check_plugin() {
    local file=$1 name=${1##*/} out status=0 line=''
    out=$(probe_file out)
    "$file" >"$out" 2>&1 || status=$?
    read -r line <"$out" || true
    line=${line%%|*} # behind the bar are figures for a program
    case $status in
        0) ok "$name" "${line:-well}" ;;
        1) warn "$name" "${line:-a warning}" ;;
        2) bad "$name" "${line:-a failure}" ;;
        3) unsure "$name" "${line:-unknown}" ;;
        *) unsure "$name" "ended with $status${line:+: $line}" "0 is ok, 1 a warning, 2 a failure, 3 unknown" ;;
    esac
}
