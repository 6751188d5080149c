#!/usr/bin/env bats
#
# The documentation says what the program does: every command, option and policy key has its place, nothing is named
# that is not there, no link is broken, and the manual page can be built. HALDANE_BUILD names the build.

# shellcheck disable=SC2016 # backticks in single quotes are Markdown's
bats_require_minimum_version 1.5.0
: "${HALDANE_BUILD:?HALDANE_BUILD must name the build directory}"
root=$(cd -- "$BATS_TEST_DIRNAME/../.." && pwd)
pages=$root/docs/commands
haldane=$HALDANE_BUILD/analyzer/cli/haldane

setup() {
    [ -x "$haldane" ] || {
        echo "there is no $haldane; build first"
        return 1
    }
}

# The commands that the program itself lists.
commands() {
    "$haldane" --help | sed -nE 's/^  ([a-z]+) +[^ ].*/\1/p'
}

# All options that any command has.
all_options() {
    local command
    for command in $(commands); do
        "$haldane" help "$command" | options_in
    done | sort -u
}

options_in() {
    grep -oE -- '--[a-z][a-z-]*' | sort -u
}

# section PAGE TITLE: the lines under "## TITLE".
section() {
    awk -v title="## $2" '/^## / { inside = $0 == title; next } inside' "$1"
}

# fenced: what stands between fences.
fenced() {
    awk '/^```/ { inside = !inside; next } inside'
}

squeeze() {
    tr -s ' \n' '  ' | sed 's/^ //; s/ $//'
}

markdown_files() {
    find "$root" -path "$root/.git" -prune -o -path "$root/build*" -prune -o -name '*.md' -print | sort
}

complain() {
    printf '%s\n' "$*"
    complaints=$((${complaints:-0} + 1))
}

# The last line of a test that collects what it finds.
none() {
    [ "${complaints:-0}" -eq 0 ]
}

@test "every command has a page, every page a command, and the overview lists them in the program's order" {
    [ "$(commands | wc -l)" -ge 14 ]
    for command in $(commands); do
        [ -f "$pages/$command.md" ] || complain "docs/commands/$command.md is missing"
    done
    for page in "$pages"/*.md; do
        name=$(basename -- "$page" .md)
        [ "$name" = haldane ] || commands | grep -qx -- "$name" || complain "$page is the page of no command"
    done
    diff <(commands) <(sed -nE 's/^- \[`([a-z]+)`\]\(\1\.md\).*/\1/p' "$pages/haldane.md") || complain "the overview differs"
    none
}

@test "every page has all of its sections" {
    for command in $(commands); do
        for title in Synopsis 'What it does' Options 'Exit codes' Example; do
            [ -n "$(section "$pages/$command.md" "$title")" ] || complain "$command.md: no section '$title'"
        done
    done
    none
}

@test "a page's synopsis is the usage that the program prints" {
    for command in $(commands); do
        page=$(section "$pages/$command.md" Synopsis | fenced | squeeze)
        program=$("$haldane" help "$command" | awk '/^$/ { exit } { sub(/^Usage: /, ""); print }' | squeeze)
        [ "$page" = "$program" ] || complain "$command.md says: $page"$'\n'"the program says: $program"
    done
    none
}

@test "a page describes the options that the program's help names, and no others" {
    for command in $(commands); do
        diff <("$haldane" help "$command" | options_in) <(section "$pages/$command.md" Options | options_in) ||
            complain "$command: < the program's help, > the page"
    done
    none
}

@test "a command takes the options that its page describes, and refuses all others" {
    [ "$(all_options | wc -l)" -ge 15 ]
    for command in $(commands); do
        for option in $(all_options); do
            described=no
            section "$pages/$command.md" Options | options_in | grep -qx -- "$option" && described=yes
            # Without a value or an argument nothing is done: what is asked is whether the option is known.
            taken=yes
            HALDANE_DB=/dev/null/none run "$haldane" "$command" "$option"
            # The guard needs no argument, and fails on the store that there is not.
            [ "$status" -eq 64 ] || [ "$command" = guard ] || complain "$command $option: exit code $status"
            [[ $output != *"does not take"* ]] || taken=no
            [ "$taken" = "$described" ] || complain "$command $option: taken: $taken, described: $described"
        done
    done
    none
}

# The calls of haldane that a page shows: lines of fenced blocks, and code inside of sentences.
calls_in() {
    awk '/^```/ { inside = !inside; next } inside && /^(\$ )?haldane / { sub(/^\$ /, ""); print }' "$1"
    awk '/^```/ { inside = !inside; next } !inside' "$1" | grep -oE '`haldane [^`]*`' | tr -d '`'
}

@test "wherever a page shows a haldane command, the command and its options exist" {
    shown=0
    while IFS= read -r file; do
        while IFS= read -r call; do
            read -r _ command rest <<<"${call%%[|;>]*}"
            shown=$((shown + 1))
            [[ $command =~ ^[a-z]+$ ]] || continue
            if ! commands | grep -qx -- "$command"; then
                [[ $command == help ]] || complain "$file: haldane $command"
                continue
            fi
            for option in $(options_in <<<"$rest"); do
                "$haldane" help "$command" | options_in | grep -qx -- "$option" || complain "$file: haldane $command $option"
            done
        done < <(calls_in "$file")
    done < <(markdown_files)
    [ "$shown" -gt 60 ]
    none
}

@test "every key that the policy reader knows has its entry in docs/policy.md" {
    reads='(section_(text|get|duration|fraction|number|bool|choice|list|open_key)|read_promql)'
    mapfile -t keys < <(grep -ohE "$reads"'\([^"]*"[a-zA-Z_]+"' "$root"/policies/*.c | sed -E 's/.*"([a-zA-Z_]+)"/\1/' |
        sort -u)
    [ "${#keys[@]}" -ge 65 ]
    for key in "${keys[@]}"; do
        grep -qE "^(## |### |- |\| )([^|:]*, )?\`$key\`" "$root/docs/policy.md" || complain "docs/policy.md has no entry for $key"
    done
    none
}

@test "every entry of docs/policy.md is a key that the policy reader knows" {
    mapfile -t keys < <(sed -n '1,/^## Refused for now/p' "$root/docs/policy.md" | grep -E '^(## `|### |- `|\| `)' |
        sed -E 's/^(- `[^`]*`(, `[^`]*`)*):.*/\1/; s/^\| (`[^`]*`).*/\1/' | grep -oE '`[a-zA-Z_]+`' | tr -d '`' |
        sort -u)
    [ "${#keys[@]}" -ge 65 ]
    for key in "${keys[@]}"; do
        grep -qF "\"$key\"" "$root"/policies/*.c || complain "docs/policy.md describes $key, which nothing reads"
    done
    none
}

@test "no relative link is broken, nor the heading that it points to" {
    links=0
    while IFS= read -r file; do
        while IFS= read -r link; do
            links=$((links + 1))
            path=${link%%#*}
            target=$file
            [ -z "$path" ] || target=$(dirname -- "$file")/$path
            [ -e "$target" ] || {
                complain "$file: $link"
                continue
            }
            [[ $link == *'#'* && $target == *.md ]] || continue
            headings "$target" | grep -qxF -- "${link#*#}" || complain "$file: $link has no such heading"
        done < <(awk '/^```/ { inside = !inside } !inside' "$file" | grep -oE '\]\([^)]*\)' | sed -E 's/^\]\(//; s/\)$//' |
            grep -vE '^[a-z]+:')
    done < <(markdown_files)
    [ "$links" -gt 30 ]
    none
}

# The anchors of a page, made as the usual viewers make them.
headings() {
    sed -nE 's/^#+ +//p' "$1" | tr '[:upper:]' '[:lower:]' | sed -E 's/[^a-z0-9 _-]//g; s/ /-/g'
}

@test "the README names both commands, they exist, and its picture is there and small" {
    for target in demo test; do
        grep -qE "(^|[^a-z])make $target( |$|\`)" "$root/README.md" || complain "README.md does not say make $target"
        grep -qE "^$target:" "$root/Makefile" || complain "the Makefile has no $target"
    done
    [ "$(wc -l <"$root/README.md")" -lt 180 ] || complain "README.md has 180 lines or more"
    grep -qF '(docs/images/report.png)' "$root/README.md" || complain "README.md does not show the report"
    [ "$(stat -c %s "$root/docs/images/report.png")" -lt 300000 ] || complain "the picture is too large"
    [ "$(head -c 8 "$root/docs/images/report.png" | od -An -tx1 | tr -d ' \n')" = 89504e470d0a1a0a ] || complain "no PNG"
    none
}

@test "every exit code of base/error.h and of the verdicts stands in docs/exit-codes.md" {
    mapfile -t codes < <(grep -oE '= [0-9]+' "$root/base/error.h" | grep -oE '[0-9]+' | sort -u)
    [ "${#codes[@]}" -ge 8 ]
    for code in "${codes[@]}" 10 20; do
        grep -qE "^\| $code \|" "$root/docs/exit-codes.md" || complain "docs/exit-codes.md lacks $code"
    done
    none
}

@test "the manual page is built without a warning and holds every command and every option" {
    command -v groff >/dev/null || {
        echo "groff is missing; install groff-base"
        return 1
    }
    "$root/scripts/man.sh" 1.2.3 >"$BATS_TEST_TMPDIR/haldane.1"
    warnings=$(groff -man -Tutf8 -k -ww -z "$BATS_TEST_TMPDIR/haldane.1" 2>&1)
    [ -z "$warnings" ] || complain "$warnings"
    text=$(groff -man -Tutf8 -k -rLL=100n -P-cbou "$BATS_TEST_TMPDIR/haldane.1")
    for command in $(commands); do
        grep -qE "^ *haldane $command\$" <<<"$text" || complain "the manual lacks haldane $command"
    done
    for option in $(all_options); do
        grep -qF -- "$option" <<<"$text" || complain "the manual lacks $option"
    done
    grep -qF 'haldane 1.2.3' <<<"$text" || complain "the manual lacks the version"
    none
}

@test "a document speaks of no machine of ours and of nothing unfinished" {
    mapfile -t files < <(markdown_files | grep -v /tests/)
    run grep -nE '/(root|work)/|TOD[O]|FIXM[E]|XX[X]' "${files[@]}" "$root/scripts/man.sh"
    echo "$output"
    [ "$status" -eq 1 ]
}
