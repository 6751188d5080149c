#!/usr/bin/env bats
#
# The house stands: no include points up or sideways, what is pure stays pure, and docs/architecture.md names every
# folder. The checker itself is tried on copies of the tree with one thing planted that must be found.

# shellcheck disable=SC2016 # backticks in single quotes are Markdown's
root=$(cd -- "$BATS_TEST_DIRNAME/../.." && pwd)

# The C files of a tree that belong to the house; tests may look everywhere.
c_files() {
    find . -path './.git' -prune -o -path './build*' -prune -o -path './tests' -prune -o -name '*.[ch]' -print |
        sed 's|^\./||' | sort
}

check() {
    local files
    cd -- "$1" || return
    mapfile -t files < <(c_files)
    ((${#files[@]} > 50)) || return
    awk -f "$BATS_TEST_DIRNAME/floors/check.awk" docs/architecture.md "${files[@]}"
}

# A copy of what the checker reads, to plant something in.
copy() {
    tree=$BATS_TEST_TMPDIR/tree
    mkdir -p -- "$tree"
    (cd -- "$root" && c_files | tar cf - -T - docs/architecture.md) | tar xf - -C "$tree"
}

# plant FILE LINE: the line becomes the file's first.
plant() {
    copy
    sed -i "1i $2" "$tree/$1"
    run check "$tree"
    [ "$status" -eq 1 ]
    # One thing was planted, one is found.
    [ "${#lines[@]}" -eq 1 ]
    [[ ${lines[0]} == "$1:1: "* ]]
}

@test "no include points up or sideways, and what is pure stays pure" {
    run check "$root"
    echo "$output"
    [ "$status" -eq 0 ]
    [ -z "$output" ]
}

@test "the table names every folder with C, and no folder that is not there" {
    mapfile -t named < <(sed -nE 's/^\| *([0-9]+|apart) *\| *`([^`]*)`.*/\2/p' "$root/docs/architecture.md")
    [ "${#named[@]}" -gt 10 ]
    for folder in "${named[@]}"; do
        [ -d "$root/$folder" ] || {
            echo "$folder is in the table and not in the tree"
            return 1
        }
    done
    for folder in "$root"/{base,stats,promclient,policies,compose} "$root"/analyzer/*/; do
        folder=${folder#"$root/"}
        [[ " ${named[*]} " == *" ${folder%/} "* ]] || {
            echo "${folder%/} is in the tree and not in the table"
            return 1
        }
    done
}

@test "the untouched copy passes: what is found below is what was planted" {
    copy
    run check "$tree"
    [ "$status" -eq 0 ]
}

@test "found: an arrow that points up" {
    plant stats/flip.c '#include "analyzer/judge/judge.h"'
    [[ $output == *"points up"* ]]
}

@test "found: an arrow from the ground floor" {
    plant base/error.c '#include "policies/policy.h"'
    [[ $output == *"points up"* ]]
}

@test "found: an arrow that points sideways" {
    plant analyzer/store/store.c '#include "analyzer/traffic/driver.h"'
    [[ $output == *"points sideways"* ]]
}

@test "found: the demo reaches into the house" {
    plant compose/shop/main.c '#include "stats/flip.h"'
    [[ $output == *"base alone"* ]]
}

@test "found: the house reaches into the demo" {
    plant analyzer/cli/main.c '#include "compose/args.h"'
    [[ $output == *"points up"* ]]
}

@test "found: an include that is not written from the root" {
    plant analyzer/judge/fold.c '#include "judge.h"'
    [[ $output == *"from the root"* ]]
}

@test "found: a pure folder with a socket" {
    plant analyzer/rollout/machine.c '#include <sys/socket.h>'
    [[ $output == *"pure"* ]]
}

@test "found: a pure folder with a database" {
    plant analyzer/report/html.c '#include <sqlite3.h>'
    [[ $output == *"pure"* ]]
}

@test "found: a pure folder that asks the clock" {
    plant analyzer/judge/fold.c 'static long now(void) { return time(NULL); }'
    [[ $output == *"pure"* ]]
}

@test "found: a library that prints" {
    plant analyzer/engine/move.c 'static void tell(void) { printf("moved"); }'
    [[ $output == *"prints"* ]]
}

@test "found: a folder that the table does not name" {
    copy
    mkdir -p -- "$tree/analyzer/notify"
    echo 'int x;' >"$tree/analyzer/notify/notify.c"
    run check "$tree"
    [ "$status" -eq 1 ]
    [[ $output == *"does not name"* ]]
}

@test "a page without the table is no licence" {
    copy
    echo '# Architecture' >"$tree/docs/architecture.md"
    run check "$tree"
    [ "$status" -eq 2 ]
}
