#!/usr/bin/env bats
#
# How tests/run counts: no test that did not pass may look as if it had, however its program ended.

# counts RESULT STDOUT: "passed failed skipped" for one program.
counts() {
    jq -cn --arg result "$1" --arg stdout "$2" '{name: "x", result: $result, stdout: $stdout}' |
        jq -rs -f "$BATS_TEST_DIRNAME/../count.jq" | jq -r '"\(.passed) \(.failed) \(.skipped)"'
}

@test "each TAP line is a test case" {
    [ "$(counts FAIL $'1..3\nok 1 - a\nnot ok 2 - b\n# why\nok 3 - c\n1..1\nok 1 - d')" = '3 1 0' ]
}

@test "a crash on the way: what was planned and not reported has failed" {
    [ "$(counts FAIL $'1..4\nok 1 - a\n')" = '1 3 0' ]
}

@test "a program that ends early and well has still not run its tests" {
    [ "$(counts OK $'1..4\nok 1 - a\n')" = '1 3 0' ]
}

@test "all lines are good and the program is not: one failure (a leak found at exit)" {
    [ "$(counts FAIL $'1..1\nok 1 - a\n')" = '1 1 0' ]
}

@test "a program without TAP is one test" {
    [ "$(counts OK 'fine')" = '1 0 0' ]
    [ "$(counts FAIL 'bad')" = '0 1 0' ]
    [ "$(counts TIMEOUT '')" = '0 1 0' ]
    [ "$(counts SKIP '')" = '0 0 1' ]
}

@test "skips, as cmocka and as bats write them, are neither" {
    [ "$(counts OK $'1..2\nok 1 - a\nnot ok 2 # SKIP b\n')" = '1 0 1' ]
    [ "$(counts OK $'1..2\nok 1 a\nok 2 b # skip no reason\n')" = '1 0 1' ]
    [ "$(counts FAIL $'1..1\nnot ok 1 what # skip means\n')" = '0 1 0' ]
}
