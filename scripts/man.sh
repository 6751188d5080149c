#!/usr/bin/env bash
#
# Writes the manual page haldane(1) to standard output, from the pages in docs/commands/ and docs/exit-codes.md. The
# pages are the source; the manual is built from them at every build and is not kept.
#
# The Markdown that the pages use is small, and all of it is read here: headings, paragraphs, lists with "-" or "1.",
# tables, fenced blocks; `code`, **bold**, *italic* and [links](to) inside lines. A link becomes its text.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/man.sh VERSION >haldane.1
END
}

case ${1:-} in
    --help)
        usage
        exit 0
        ;;
    '' | -*)
        usage >&2
        exit 64
        ;;
esac
version=$1
docs=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../docs" && pwd)

# The commands in the order of the overview.
# shellcheck disable=SC2016 # the backticks are Markdown's
mapfile -t commands < <(sed -nE 's/^- \[`([a-z]+)`\].*/\1/p' "$docs/commands/haldane.md")

# to_man LEVEL FILE: level 0 makes "## Section" a section of the manual; level 1 makes the page one subsection.
to_man() {
    awk -v level="$1" '
    # Text as roff: what roff would read otherwise is escaped, then the marks of Markdown become fonts.
    function escaped(text) {
        gsub(/\\/, "\\e", text)
        gsub(/-/, "\\-", text)
        gsub(/\047/, "\\(aq", text)
        gsub(/`/, "\\(ga", text)
        gsub(/\^/, "\\(ha", text)
        gsub(/~/, "\\(ti", text)
        return text
    }
    function inline(text,    out, parts, n, i) {
        while (match(text, /\[[^]]*\]\([^)]*\)/)) {
            out = substr(text, RSTART + 1, RLENGTH - 1)
            sub(/\]\(.*/, "", out)
            text = substr(text, 1, RSTART - 1) out substr(text, RSTART + RLENGTH)
        }
        n = split(text, parts, "`")
        out = ""
        for (i = 1; i <= n; i++) {
            parts[i] = escaped(parts[i])
            if (i % 2 == 1) {
                while (sub(/\*\*/, "\\fB", parts[i]) && sub(/\*\*/, "\\fR", parts[i])) {}
                while (sub(/\*/, "\\fI", parts[i]) && sub(/\*/, "\\fR", parts[i])) {}
                out = out parts[i]
            } else
                out = out "\\fB" parts[i] "\\fR"
        }
        return out
    }
    # A line that begins with a dot or a quote would be a request.
    function line(text) {
        print (text ~ /^[.\047]/ ? "\\&" : "") text
    }
    function flush() {
        if (pending != "") {
            line(inline(pending))
            pending = ""
        }
    }
    function open_text() {
        if (fresh)
            print ".PP"
        fresh = 0
    }
    /^```/ {
        flush()
        if (!fenced)
            print ".PP\n.RS 4\n.nf"
        else
            print ".fi\n.RE"
        fenced = !fenced
        fresh = 1
        next
    }
    fenced {
        line(escaped($0))
        next
    }
    /^# / { # the page itself
        flush()
        if (level == 1)
            print ".SS " inline(substr($0, 3))
        next
    }
    /^##+ / {
        flush()
        sub(/^#+ /, "")
        if (level == 1) {
            print ".PP\n\\fI" inline($0) "\\fR"
            fresh = 1
        } else {
            print ".SH " toupper(inline($0))
            fresh = 0
        }
        next
    }
    /^\|[- |:]+\|$/ { # the line under the head of a table: the head is not shown
        head = 0
        next
    }
    /^\|/ {
        flush()
        if (!in_table) {
            in_table = 1
            head = 1
            next
        }
        n = split($0, cells, "|")
        print ".TP 8\n" inline("**" trim(cells[2]) "**")
        text = inline(trim(cells[3]))
        for (i = 4; i < n; i++)
            text = text " \\(em " inline(trim(cells[i]))
        line(text)
        fresh = 1
        next
    }
    { in_table = 0 }
    /^$/ {
        flush()
        fresh = 1
        next
    }
    /^- `/ && index($0, "`: ") { # what a list explains
        flush()
        at = index($0, "`: ")
        print ".TP 8\n" inline(substr($0, 3, at - 2))
        pending = substr($0, at + 3)
        fresh = 0
        next
    }
    /^(-|[0-9]+\.) / {
        flush()
        print ".IP \\(bu 2"
        sub(/^(-|[0-9]+\.) /, "")
        pending = $0
        fresh = 0
        next
    }
    {
        if (pending == "")
            open_text()
        sub(/^ +/, "")
        pending = pending (pending == "" ? "" : " ") $0
    }
    END { flush() }
    function trim(text) {
        gsub(/^ +| +$/, "", text)
        return text
    }
    ' "$2"
}

cat <<END
.\\" Built by scripts/man.sh from docs/commands/; change those.
.TH HALDANE 1 "" "haldane $version" "User Commands"
.ad l
.SH NAME
haldane \\- watches a software canary, and steps its traffic up, or back
END
to_man 0 "$docs/commands/haldane.md" | awk '/^\.SH / { skip = /EXAMPLES/ } /^haldane watches/ { next } { sub(/^\.SH WHAT IT DOES/, ".SH DESCRIPTION") } !skip'
printf '.SH COMMANDS\n'
for command in "${commands[@]}"; do
    to_man 1 "$docs/commands/$command.md"
done
printf '.SH EXIT STATUS\n'
to_man 0 "$docs/exit-codes.md"
printf '.SH SEE ALSO\n'
printf 'The pages in docs/: policy, traffic, rollout, evidence, verdict, store, statistics, canary, runbook.\n'
