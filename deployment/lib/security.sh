# shellcheck shell=bash
# shellcheck disable=SC2154,SC2153,SC2016 # scratch, record, here, root and the settings are the caller's; jq's $ are jq's own
#
# The security scan of a stack that runs, with tools from Debian and Docker's own answers.
#
# Each scan writes findings: severity (info, low, medium, high, critical), id, tool, where, what, and what to do. Ids
# are stable, so that a finding can be accepted by name in SECURITY_ACCEPTED_FILE, with a reason and a day on which
# that ends. A scan that could not be run is said to be so, and never counts as one that found nothing.

security_scans=(lint dockerfiles tls ports binaries images containers secrets external)

# finding SEVERITY TOOL ID WHERE WHAT [TO DO]
finding() {
    jq -cn --arg severity "$1" --arg tool "$2" --arg id "$3" --arg where "$4" --arg what "$5" --arg todo "${6:-}" \
        '{severity: $severity, tool: $tool, id: $id, where: $where, what: $what, todo: $todo}' >>"$scratch/findings"
}

not_run() {
    jq -cn --arg scan "$1" --arg why "$2" '{scan: $scan, why: $why}' >>"$scratch/not-run"
}

# tool_present SCAN TOOL: a tool that the settings require makes the whole scan incomplete when it is missing.
tool_present() {
    command -v "$2" >/dev/null && return 0
    not_run "$1" "$2 is not installed"
    return 1
}

# security_scan: runs the scans of $SECURITY_SCANS; the result is $record/security.json. 0 nothing at or above
# $SECURITY_THRESHOLD, 1 findings, 69 a scan that is required could not be run.
security_scan() {
    local scan
    : >"$scratch/findings"
    : >"$scratch/not-run"
    stack_containers >"$scratch/containers" || return 69
    for scan in "${security_scans[@]}"; do
        [[ ,$SECURITY_SCANS, == *,all,* || ,$SECURITY_SCANS, == *,$scan,* ]] || continue
        ! interrupted || return 1
        log "security scan: $scan"
        "scan_$scan" || not_run "$scan" "it failed with exit code $?"
    done
    security_result
}

# One line a container of the stack: id, service, image.
stack_containers() {
    docker ps -a --filter "label=com.docker.compose.project=$PROJECT" \
        --format '{{.ID}}	{{.Label "com.docker.compose.service"}}	{{.Image}}'
}

running_containers() {
    docker ps --filter "label=com.docker.compose.project=$PROJECT" \
        --format '{{.ID}}	{{.Label "com.docker.compose.service"}}	{{.Image}}'
}

stack_images() {
    cut -f 3 "$scratch/containers" | sort -u
}

# --- What is in the repository ---------------------------------------------------------------------------------------

scan_lint() {
    local scripts=("$root"/deployment/*.sh "$root"/deployment/lib/*.sh)
    if tool_present 'lint (shell)' shellcheck; then
        { shellcheck --external-sources --format json "${scripts[@]}" || true; } |
            jq -c '.[] | {severity: (if .level == "error" then "medium" elif .level == "warning" then "low" else "info" end),
                tool: "shellcheck", id: "shellcheck-SC\(.code)", where: "\(.file):\(.line)", what: .message, todo: ""}' \
                >>"$scratch/findings"
    fi
    if tool_present 'lint (YAML)' yamllint; then
        scan_yaml
    fi
}

# yamllint's "parsable" lines: FILE:LINE:COLUMN: [LEVEL] MESSAGE (RULE)
scan_yaml() {
    local line
    while IFS= read -r line; do
        [[ $line =~ ^([^:]+:[0-9]+):[0-9]+:\ \[(error|warning)\]\ (.*)\ \(([a-z-]+)\)$ ]] || continue
        if [[ ${BASH_REMATCH[2]} == error ]]; then
            finding medium yamllint "yamllint-${BASH_REMATCH[4]}" "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]}"
        else
            finding low yamllint "yamllint-${BASH_REMATCH[4]}" "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]}"
        fi
    done < <(yamllint --format parsable --config-data \
        '{extends: default, rules: {line-length: disable, document-start: disable, braces: disable, commas: disable,
          comments: disable, brackets: disable, comments-indentation: disable, indentation: disable}}' \
        "$root"/compose/*.yml "$root"/compose/prometheus "$root"/compose/alertmanager 2>/dev/null || true)
}

# Of lynis's report: KIND[]=ID|TEXT|... What it says of itself and of the machine is left out.
scan_dockerfiles() {
    local file kind text
    tool_present dockerfiles lynis || return 0
    for file in "$root"/compose/images/*/Dockerfile; do
        rm -f -- "$scratch/lynis.dat"
        timeout 120 lynis --no-colors --quiet --logfile "$scratch/lynis.log" --report-file "$scratch/lynis.dat" \
            audit dockerfile "$file" >/dev/null 2>&1 || true
        [[ -s $scratch/lynis.dat ]] || return 1
        while IFS='|' read -r kind text _; do
            case $kind in
                *=LYNIS) ;;
                'warning[]=dockerfile') finding low lynis lynis-dockerfile "${file#"$root"/}" "$text" ;;
                'suggestion[]='*) finding info lynis lynis-suggestion "${file#"$root"/}" "${kind#*=}" ;;
            esac
        done <"$scratch/lynis.dat"
    done
}

# --- What the network shows ------------------------------------------------------------------------------------------

scan_tls() {
    tool_present tls testssl || return 0
    rm -f -- "$scratch/tls.json"
    # shellcheck disable=SC2086 # the options are words
    timeout 300 testssl --quiet --color 0 --warnings off --jsonfile "$scratch/tls.json" $SECURITY_TLS_OPTIONS \
        "$TLS_HOST:$HTTPS_PORT" >"$record/testssl.txt" 2>&1 </dev/null || true
    [[ -s $scratch/tls.json ]] || return 1
    jq -c --arg where "$TLS_HOST:$HTTPS_PORT" '.[] | select(.severity | IN("LOW", "MEDIUM", "HIGH", "CRITICAL"))
        | {severity: (.severity | ascii_downcase), tool: "testssl", id: "tls-\(.id | gsub("[^A-Za-z0-9_.-]"; "_"))",
           where: $where, what: .finding, todo: ""}' "$scratch/tls.json" >>"$scratch/findings"
}

scan_ports() {
    scan_published
    tool_present 'ports (nmap)' nmap || return 0
    scan_listening
}

# Only the front door may be published beyond this machine.
scan_published() {
    local id service image
    while IFS=$'\t' read -r id service image; do
        docker inspect "$id" | jq -c --arg service "$service" --arg front "$PUBLISH_ADDRESS" '
            .[0].HostConfig.PortBindings // {} | to_entries[] | (.key | split("/")[0]) as $port | .value[]? |
            (if .HostIp == "" then "0.0.0.0" else .HostIp end) as $address |
            select(($service == "haproxy" and ($port | IN("8080", "8443")) and $address == $front
                    or $address == "127.0.0.1" and ($service | IN("haproxy", "prometheus", "alertmanager", "grafana"))) | not) |
            {severity: "high", tool: "docker", id: "published-\($service)-\($port)", where: $service,
             what: "port \($port) is published at \($address):\(.HostPort), which is not on the list",
             todo: "publish it at 127.0.0.1, or not at all"}' >>"$scratch/findings"
    done <"$scratch/containers"
}

# Every port of every container, from the machine that they run on: what is not on the list of security/ports.tsv was
# not meant to be there.
scan_listening() {
    local id service image address port
    while IFS=$'\t' read -r id service image; do
        address=$(docker inspect "$id" | jq -r '[.[0].NetworkSettings.Networks[].IPAddress | select(. != "")][0] // empty')
        [[ -n $address ]] || continue
        while read -r port; do
            port_expected "$service" "$port" ||
                finding high nmap "listening-$service-$port" "$service" "something listens on port $port" \
                    "if it is meant, add it to $SECURITY_PORTS_FILE"
        done < <(timeout 120 nmap -n -Pn -sT -p- --min-rate 3000 --max-retries 1 -oG - "$address" 2>/dev/null |
            grep -oE '[0-9]+/open/tcp' | cut -d / -f 1)
    done < <(running_containers)
}

port_expected() {
    local service=$1 port=$2 pattern ports
    while IFS=$'\t' read -r pattern ports; do
        # shellcheck disable=SC2053 # a pattern is meant
        [[ $service == $pattern && ,$ports, == *,$port,* ]] && return 0
    done < <(grep -v '^#' "$SECURITY_PORTS_FILE")
    return 1
}

# --- What is in the images -------------------------------------------------------------------------------------------

# The first container of a service whose name fits the pattern.
container_like() {
    local id service
    while IFS=$'\t' read -r id service _; do
        # shellcheck disable=SC2053 # it is a pattern
        [[ $service != $1 ]] || { printf '%s\n' "$id" && return; }
    done <"$scratch/containers"
}

# $SECURITY_BINARIES: SERVICE:PATH..., our own programs, as the compiler left them.
scan_binaries() {
    local place places service path id file
    tool_present binaries checksec || return 0
    read -r -a places <<<"$SECURITY_BINARIES"
    for place in "${places[@]}"; do
        service=${place%%:*}
        path=${place#*:}
        id=$(container_like "$service")
        file=$scratch/$(basename -- "$path")
        if [[ -z $id ]] || ! docker cp "$id:$path" "$file" >/dev/null 2>&1; then
            not_run binaries "$path of $service cannot be had"
            continue
        fi
        checksec --file="$file" --output=json 2>/dev/null | jq -c --arg where "$service:$path" '
            .[] | objects | to_entries[] |
            {severity: (if .key == "nx" and .value != "yes" then "high"
                elif .key == "pie" and .value != "yes" then "medium"
                elif .key == "relro" and .value == "no" then "medium"
                elif .key == "relro" and .value != "full" then "low"
                elif .key == "canary" and .value != "yes" then "medium"
                elif .key == "rpath" and .value != "no" then "medium" else empty end),
             tool: "checksec", id: "binary-\(.key)", where: $where, what: "\(.key) is \(.value)",
             todo: "build it with the flags that Debian builds with (dpkg-buildflags)"}' >>"$scratch/findings"
    done
}

scan_images() {
    local image user files
    while read -r image; do
        user=$(docker image inspect "$image" | jq -r '.[0].Config.User // ""')
        case ${user%%:*} in
            '' | root | 0) finding high docker image-root "$image" "the image runs as root" "give its Dockerfile a USER" ;;
        esac
        files=$(docker run --rm --network none --user 0 --cap-drop ALL --cap-add DAC_READ_SEARCH --entrypoint find \
            "$image" / -xdev -type f -perm /6000 2>/dev/null | paste -sd ' ')
        [[ -z $files ]] || finding "$(setuid_severity "$image")" find image-setuid "$image" "setuid or setgid: $files" \
            "take the bits away in the Dockerfile: find / -xdev -perm /6000 -type f -exec chmod a-s {} +"
    done < <(stack_images)
}

# Where no process may gain privileges, these bits do nothing; they are still one mistake away from doing something.
setuid_severity() {
    local id service image
    while IFS=$'\t' read -r id service image; do
        [[ $image == "$1" ]] || continue
        docker inspect "$id" | jq -e '[(.[0].HostConfig.SecurityOpt // [])[] | startswith("no-new-privileges")] | any' \
            >/dev/null || { printf 'high\n' && return; }
    done <"$scratch/containers"
    printf 'low\n'
}

scan_containers() {
    local id service image
    while IFS=$'\t' read -r id service image; do
        docker inspect "$id" | jq -c --arg service "$service" '.[0] | . as $c |
            def finding($severity; $id; $what; $todo):
                {severity: $severity, tool: "docker", id: "container-\($id)", where: $service, what: $what, todo: $todo};
            (select(.HostConfig.Privileged) | finding("critical"; "privileged"; "it is privileged"; "take that away")),
            (select((.HostConfig.CapDrop // []) | index("ALL") | not) |
                finding("medium"; "capabilities"; "it keeps capabilities"; "cap_drop: [ALL]")),
            ((.HostConfig.CapAdd // [])[] | finding("medium"; "cap-\(.)"; "it is given the capability \(.)"; "do without")),
            (select(.HostConfig.ReadonlyRootfs | not) |
                finding("low"; "writable-root"; "its root is writable"; "read_only: true, and tmpfs where it writes")),
            (select([(.HostConfig.SecurityOpt // [])[] | startswith("no-new-privileges")] | any | not) |
                finding("medium"; "new-privileges"; "it may gain privileges"; "security_opt: [no-new-privileges:true]")),
            (select(.HostConfig.NetworkMode == "host" or .HostConfig.PidMode == "host" or .HostConfig.IpcMode == "host") |
                finding("high"; "host-namespace"; "it shares a namespace with the host"; "give it its own")),
            (.Mounts[]? | select(.Source | endswith("docker.sock")) |
                finding("critical"; "docker-socket"; "it has the engine'\''s socket"; "whoever has it is root of the host")),
            (.Mounts[]? | select(.Type == "bind" and .RW and (.Source | IN("/", "/etc", "/root", "/home", "/var", "/usr"))) |
                finding("high"; "host-folder"; "it may write to the host'\''s \(.Source)"; "mount less, read-only")),
            (select(.HostConfig.Memory == 0) | finding("low"; "memory"; "its memory has no limit"; "mem_limit")),
            (select((.HostConfig.PidsLimit // 0) <= 0) | finding("low"; "pids"; "its processes have no limit"; "pids_limit"))' \
            >>"$scratch/findings"
    done <"$scratch/containers"
}

# The secrets themselves are looked for, as well as what looks like one.
scan_secrets() {
    local name secret id service image text
    while IFS=$'\t' read -r id service image; do
        docker inspect "$id" | jq -r '.[0].Config | (.Env // [])[], (.Cmd // [])[], (.Labels // {} | to_entries[].value)' \
            >"$scratch/visible-$service"
    done <"$scratch/containers"
    while read -r image; do
        docker history --no-trunc --format '{{.CreatedBy}}' "$image" 2>/dev/null
        docker image inspect "$image" | jq -r '.[0].Config | (.Env // [])[], (.Labels // {} | to_entries[].value)'
    done < <(stack_images) >"$scratch/visible-images"
    for text in "$scratch"/visible-*; do
        if grep -qE -- '-----BEGIN [A-Z ]*PRIVATE KEY|(PASSWORD|PASSWD|SECRET|TOKEN|API_KEY)=[^[:space:]$/]{4,}' "$text"; then
            finding high secrets secret-pattern "${text##*/visible-}" "what looks like a secret is in its environment or history" \
                "hand it over as a file"
        fi
        for name in "$SECRETS_DIR"/*; do
            [[ -f $name && ${name##*/} == *password* ]] || continue
            secret=$(<"$name")
            [[ ${#secret} -ge 8 ]] || continue
            ! grep -qF -- "$secret" "$text" ||
                finding critical secrets secret-visible "${text##*/visible-}" "the secret ${name##*/} is in its environment, command or history" \
                    "change the secret, and hand it over as a file"
        done
        rm -f -- "$text"
    done
}

# Tools that Debian does not have are used where they are there.
scan_external() {
    local image severities
    severities='def level: ascii_downcase | if . == "negligible" or . == "unknown" or . == "info" or . == "style" then "info"
        elif . == "warning" then "low" elif . == "error" then "medium" else . end;'
    if tool_present 'external (trivy)' trivy; then
        while read -r image; do
            timeout 600 trivy image --quiet --format json "$image" 2>/dev/null | jq -c --arg image "$image" "$severities"'
                .Results[]?.Vulnerabilities[]? | {severity: (.Severity | level), tool: "trivy", id: .VulnerabilityID,
                where: "\($image) \(.PkgName)", what: (.Title // ""), todo: "fixed in \(.FixedVersion // "no version yet")"}'
        done < <(stack_images) >>"$scratch/findings" || not_run 'external (trivy)' 'it failed'
    fi
    if tool_present 'external (grype)' grype; then
        while read -r image; do
            timeout 600 grype -q -o json "$image" 2>/dev/null | jq -c --arg image "$image" "$severities"'
                .matches[]? | {severity: (.vulnerability.severity | level), tool: "grype", id: .vulnerability.id,
                where: "\($image) \(.artifact.name)", what: (.vulnerability.description // ""), todo: ""}'
        done < <(stack_images) >>"$scratch/findings" || not_run 'external (grype)' 'it failed'
    fi
    if tool_present 'external (hadolint)' hadolint; then
        { hadolint --format json "$root"/compose/images/*/Dockerfile || true; } | jq -c "$severities"'
            .[] | {severity: (.level | level), tool: "hadolint", id: .code, where: "\(.file):\(.line)", what: .message, todo: ""}' \
            >>"$scratch/findings" || not_run 'external (hadolint)' 'it failed'
    fi
    if tool_present 'external (gitleaks)' gitleaks; then
        gitleaks detect --no-banner --source "$root" --report-format json --report-path "$scratch/leaks.json" --exit-code 0 \
            >/dev/null 2>&1 || not_run 'external (gitleaks)' 'it failed'
        jq -c '.[] | {severity: "critical", tool: "gitleaks", id: "gitleaks-\(.RuleID)",
            where: "\(.File):\(.StartLine)", what: .Description, todo: "change the secret"}' "$scratch/leaks.json" \
            >>"$scratch/findings" 2>/dev/null || true
    fi
}

# --- The result ------------------------------------------------------------------------------------------------------

# The list of accepted findings as JSON. A day that has passed accepts nothing any more; "-" has no end.
accepted_findings() {
    local pattern until why
    while IFS=$'\t' read -r pattern until why; do
        [[ -n $pattern && $pattern != \#* ]] || continue
        if [[ $until != - && $until < $(date -u +%Y-%m-%d) ]]; then
            log "the acceptance of $pattern ended on $until"
            continue
        fi
        jq -cn --arg pattern "$pattern" --arg why "$why" '{pattern: $pattern, why: $why}'
    done <"$SECURITY_ACCEPTED_FILE"
}

security_result() {
    accepted_findings >"$scratch/accepted" || return 66
    jq -n --slurpfile findings "$scratch/findings" --slurpfile missing "$scratch/not-run" \
        --slurpfile accepted "$scratch/accepted" --arg threshold "$SECURITY_THRESHOLD" --arg required "$SECURITY_REQUIRED" '
        ["info", "low", "medium", "high", "critical"] as $levels |
        def level: . as $name | $levels | index($name) // 4;
        def as_pattern: "^" + (gsub("(?<c>[.+^$(){}|\\[\\]\\\\])"; "\\\(.c)") | gsub("[*]"; ".*") | gsub("[?]"; ".")) + "$";
        ($findings | unique | map(. as $f | . + {accepted: ([$accepted[] | . as $a |
            select($f.id | test($a.pattern | as_pattern)) | .why][0] // null)})
            | sort_by([-(.severity | level), .tool, .id, .where])) as $all |
        ($required | split(",") | map(select(. != ""))) as $required |
        {threshold: $threshold, findings: $all, not_run: $missing,
         counts: ($levels | map(. as $name | {key: $name, value: ($all | map(select(.severity == $name and .accepted == null)) | length)})
             | from_entries),
         accepted: ($all | map(select(.accepted)) | length),
         incomplete: ([$missing[] | .scan | split(" ")[0] | select(IN($required[]))] | unique),
         passed: ([$all[] | select(.accepted == null and (.severity | level) >= ($threshold | level))] == [])}' \
        >"$record/security.json" || return 70
    jq -e .passed "$record/security.json" >/dev/null || return 1
    jq -e '.incomplete == []' "$record/security.json" >/dev/null || return 69
}

security_tell() {
    jq -r '(.findings[] | select(.severity != "info") |
            "\(.severity)  \(.id)  \(.where): \(.what)\(if .todo != "" then " (\(.todo))" else "" end)\(if .accepted then "  ACCEPTED: \(.accepted)" else "" end)"),
        (.not_run[] | "not run: \(.scan): \(.why)"),
        "findings: \(.counts | to_entries | reverse | map("\(.value) \(.key)") | join(", ")); \(.accepted) accepted; from \(.threshold) on they fail"' \
        "$record/security.json"
}
