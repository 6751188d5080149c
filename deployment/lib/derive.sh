# shellcheck shell=bash
# shellcheck disable=SC2154 # config_known is lib/config.sh's
#
# A stack beside the one of the configuration: the same settings, but for its name, its ports and its folders. The
# settings are written to a file of their own, so that every script that is called by its name or by a person afterwards
# works on that stack and on no other.

# config_derive FILE NAME=VALUE...: writes all settings in force to FILE, with those in place of their own. Fails with
# 74 if it cannot be written.
config_derive() {
    local file=$1 name pair
    local -A changed=()
    shift
    for pair in "$@"; do
        changed[${pair%%=*}]=${pair#*=}
    done
    mkdir -p -- "$(dirname -- "$file")" || return 74
    {
        printf '# Written by %s. Settings of another stack, for --config and HALDANE_DEPLOYMENT_CONF.\n' "${0##*/}"
        while IFS= read -r name; do
            printf '%s=%s\n' "$name" "${changed[$name]-${!name}}"
        done < <(printf '%s\n' "${!config_known[@]}" | sort)
    } >"$file.new" && mv -f -- "$file.new" "$file" || return 74
}

# What must be of the stack itself, and not of the one that the user's configuration speaks of.
# shellcheck disable=SC2034 # the caller's
derived_places=(SHOP_URL= SHOP_TLS_URL= OPS_URL= PROMETHEUS_URL= ALERTMANAGER_URL= DATABASE_COMMAND= CACHE_COMMAND=
    READINESS_URLS= HEALTH_ENDPOINTS= BACKUP_COPY_COMMAND= CERTIFICATE_FILE=)

# derived_folders FOLDER: its folders, all in one; prints NAME=VALUE lines.
derived_folders() {
    printf '%s\n' "SECRETS_DIR=$1/secrets" "STATE_DIR=$1/state" "BACKUP_DIR=$1/backups" "TEXTFILE_DIR=$1/textfile"
}
