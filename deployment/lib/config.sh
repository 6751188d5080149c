# shellcheck shell=bash
#
# The settings of a deployment: deployment.conf beside the scripts has all of them with their defaults, and the user's
# file has what differs. Each becomes a shell variable of its name and is exported, because compose and the commands
# that are themselves settings read them from there. The environment is not asked: a variable that happens to be set
# must not move a deployment.
#
# Uses of the caller: lib/log.sh. Sets `root` (the folder above deployment/) and `config_file` (the user's; may be
# empty).
#
# A value is taken as it stands: no quotes, no expansion. Names that end with _DIR, _FILE or _FILES, and POLICIES, are
# paths; a relative one begins at `root`. So does the program of a name that ends with _COMMAND, if it has a slash.

root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../.." && pwd)
config_file=''
declare -A config_known=()

# config_load [FILE]: FILE, else $HALDANE_DEPLOYMENT_CONF, else the defaults alone. Ends with 65 or 66 if it cannot.
# The file is named to children in HALDANE_DEPLOYMENT_CONF, so that a script called by a script has the same settings.
config_load() {
    config_file=${1:-${HALDANE_DEPLOYMENT_CONF:-}}
    config_known=()
    config_read "$root/deployment/deployment.conf" defaults
    if [[ -n $config_file ]]; then
        config_file=$(realpath -m -- "$config_file")
        config_read "$config_file" "user's"
    fi
    export HALDANE_DEPLOYMENT_CONF=$config_file
    config_check
    config_resolve
    config_own_state
}

# config_read FILE WHOSE: one NAME=value a line.
config_read() {
    local file=$1 whose=$2 line name value number=0
    local -A seen=()
    [[ -r $file && ! -d $file ]] || fail 66 "the configuration '$file' cannot be read"
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        line=${line%$'\r'}
        line=${line%"${line##*[![:blank:]]}"}
        [[ -n $line && $line != \#* ]] || continue
        [[ $line =~ ^([A-Z][A-Z0-9_]*)=[[:blank:]]*(.*)$ ]] ||
            fail 65 "$file:$number: '$line' is no setting; write NAME=value, or # before a comment"
        name=${BASH_REMATCH[1]}
        value=${BASH_REMATCH[2]}
        [[ -z ${seen[$name]:-} ]] || fail 65 "$file:$number: $name is set already in line ${seen[$name]}"
        seen[$name]=$number
        if [[ $whose == defaults ]]; then
            config_known[$name]="$file:$number"
        elif [[ -z ${config_known[$name]:-} ]]; then
            fail 65 "$file:$number: $name is not known; did you mean $(nearest "$name" "${!config_known[@]}")?"
        else
            config_known[$name]="$file:$number"
        fi
        [[ ! $value =~ ^\"[^\"]*\"$ && ! $value =~ ^\'[^\']*\'$ ]] ||
            fail 65 "$file:$number: the quotes would be part of the value of $name; leave them out"
        printf -v "$name" '%s' "$value"
        export "${name?}"
    done <"$file"
}

# nearest ASKED NAME...: the name with the fewest letters to change.
nearest() {
    local asked=$1 name distance best='' fewest=1000
    for name in "${@:2}"; do
        distance=$(letters_between "$asked" "$name")
        if ((distance < fewest || (distance == fewest && ${#name} < ${#best}))); then
            fewest=$distance
            best=$name
        fi
    done
    printf '%s\n' "$best"
}

# Levenshtein's distance of two names.
letters_between() {
    local a=$1 b=$2 i j cost row=() before
    for ((j = 0; j <= ${#b}; j++)); do row[j]=$j; done
    for ((i = 1; i <= ${#a}; i++)); do
        before=${row[0]}
        row[0]=$i
        for ((j = 1; j <= ${#b}; j++)); do
            cost=$before
            [[ ${a:i-1:1} == "${b:j-1:1}" ]] || cost=$((cost + 1))
            before=${row[j]}
            ((cost <= row[j] + 1)) || cost=$((row[j] + 1))
            ((cost <= row[j - 1] + 1)) || cost=$((row[j - 1] + 1))
            row[j]=$cost
        done
    done
    printf '%s\n' "${row[${#b}]}"
}

# config_wrong NAME WHAT: names the line that set it.
config_wrong() {
    fail 65 "${config_known[$1]}: $1 is '${!1}'; $2"
}

# What has a form of its own.
config_check() {
    local name
    for name in "${!config_known[@]}"; do
        case $name in
            *_PORT)
                if [[ ! ${!name} =~ ^[1-9][0-9]{0,4}$ ]] || ((${!name} > 65535)); then
                    config_wrong "$name" "a port is 1 to 65535"
                fi
                ;;
            *_TIMEOUT)
                [[ ${!name} =~ ^([0-9]+(ms|[smhdw]))+$ ]] ||
                    config_wrong "$name" "write a duration such as 90s or 1m30s"
                ;;
        esac
    done
    [[ $PROJECT =~ ^[a-z0-9][a-z0-9_-]*$ ]] || config_wrong PROJECT "use small letters, digits, _ and -"
    [[ $STRATEGY == canary || $STRATEGY == blue-green ]] || config_wrong STRATEGY "it is canary or blue-green"
    [[ $GRAFANA == yes || $GRAFANA == no ]] || config_wrong GRAFANA "it is yes or no"
}

config_resolve() {
    local name
    for name in "${!config_known[@]}"; do
        case $name in
            *_DIR | *_FILE | *_FILES | POLICIES) config_absolute "$name" ;;
            *_COMMAND) [[ ! ${!name} =~ ^[^/[:blank:]]+/ ]] || printf -v "$name" '%s' "$root/${!name}" ;;
        esac
    done
}

# Two stacks with one memory would take each other's versions for their own. `stack.sh init` writes whose it is.
config_own_state() {
    local owner
    { read -r owner <"$STATE_DIR/project"; } 2>/dev/null || return 0
    [[ $owner == "$PROJECT" ]] ||
        config_wrong STATE_DIR "the stack '$owner' has its memory there; give the stack '$PROJECT' a folder of its own"
}

config_absolute() {
    local name=$1 path paths=()
    for path in ${!name}; do
        [[ $path == /* ]] || path=$root/$path
        paths+=("$path")
    done
    printf -v "$name" '%s' "${paths[*]}"
}
