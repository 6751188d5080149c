# shellcheck shell=bash
#
# The command line, read in one way by all scripts. A script says what it takes:
#
#   takes flag --dry-run --yes      its value is "yes"
#   takes value --version --set     --version VALUE or --version=VALUE; never empty, and may begin with "-"
#   takes optional --resume         also alone, and then empty: the next word is its value if it does not begin with "-"
#
# and `options_read "$@"` hands over what is found, one by one, to the script's take_option NAME VALUE and take_argument
# VALUE. A script that is itself a set of commands has take_command WORD... instead: it gets, unread, the first argument
# with all that follows it. --help is every script's. What is not right ends with 64, before anything is done.
#
# Uses lib/log.sh, `nearest` of lib/config.sh, and the caller's `usage`.
#
# A script ends with `main "$@"` and `exit` in one pair of braces. bash reads a script while it runs it, but braces as a
# whole before it runs what is in them. So a script that is replaced in the middle of a deployment goes on as it was.

declare -A options_known=()

# takes KIND NAME...
takes() {
    local name
    for name in "${@:2}"; do options_known[$name]=$1; done
}

usage_error() {
    fail 64 "$*; see ${0##*/} --help"
}

# Of a script that takes none. One that does has its own.
take_argument() {
    usage_error "unexpected argument '$1'"
}

# options_read WORD...: the script's functions are called from in here and set variables of the script, so the names here
# are none that a script would take.
options_read() {
    local option option_attached
    takes flag --help
    while (($# > 0)); do
        case $1 in
            --help | -h)
                usage
                exit 0
                ;;
            --)
                shift
                break
                ;;
            -*) ;;
            *)
                ! declare -F take_command >/dev/null || break
                take_argument "$1"
                shift
                continue
                ;;
        esac
        option=${1%%=*}
        option_attached=${1#"$option"}
        shift
        case ${options_known[$option]:-}$option_attached in
            flag) take_option "$option" yes ;;
            flag=*) usage_error "$option takes no value" ;;
            value=* | optional=*) options_value "$option" "${option_attached#=}" ;;
            value)
                options_value "$option" "${1:-}"
                shift
                ;;
            optional)
                if (($# > 0)) && [[ $1 != -* ]]; then
                    options_value "$option" "$1"
                    shift
                else
                    take_option "$option" ''
                fi
                ;;
            *) usage_error "unknown option '$option' (did you mean $(nearest "$option" "${!options_known[@]}")?)" ;;
        esac
    done
    options_rest "$@"
}

options_value() {
    [[ -n $2 ]] || usage_error "$1 needs a value that is not empty"
    take_option "$@"
}

# What is left are arguments, whatever they look like.
options_rest() {
    local option
    if (($# > 0)) && declare -F take_command >/dev/null; then
        take_command "$@"
        return
    fi
    for option in "$@"; do
        take_argument "$option"
    done
}

# --- What several options of several scripts want of their value: needs_KIND NAME VALUE ------------------------------

needs() {
    usage_error "$1 takes $3, not '$2'"
}

needs_url() {
    [[ $2 =~ ^https?://[^/] ]] || needs "$@" "a URL such as http://127.0.0.1:8080"
}

needs_header() {
    [[ $2 =~ ^[A-Za-z0-9-]+:\ ?[^[:cntrl:]]*$ ]] || needs "$@" "'NAME: VALUE'"
}

# A setting of a policy.
needs_setting() {
    [[ $2 =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || needs "$@" "NAME=VALUE"
}

# Uses lib/duration.sh.
needs_duration() {
    duration_seconds "$2" >/dev/null || needs "$@" "a duration such as 90s or 1m30s"
}

# Uses lib/versions.sh.
needs_version() {
    is_version "$2" || needs "$@" "letters, digits, '.', '_' and '-'"
}

# needs_number NAME VALUE MOST: from 1 on.
needs_number() {
    if [[ ! $2 =~ ^[1-9][0-9]{0,8}$ ]] || (($2 > $3)); then
        needs "$1" "$2" "a whole number from 1 to $3"
    fi
}

# needs_one_of NAME VALUE KNOWN...
needs_one_of() {
    local known
    for known in "${@:3}"; do
        [[ $2 != "$known" ]] || return 0
    done
    needs "$1" "$2" "one of ${*:3}"
}
