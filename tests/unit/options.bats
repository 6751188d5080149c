#!/usr/bin/env bats
#
# The command line of the scripts of deployment/: the reader in lib/options.sh, and what each script makes of it.

bats_require_minimum_version 1.5.0

deployment=$(cd -- "$BATS_TEST_DIRNAME/../../deployment" && pwd)
scripts=(backup blue-green canary health-check rehearse rollback smoke-test stack staging warm-cache)

# A script that prints what it is given.
setup() {
    script=$BATS_TEST_TMPDIR/demo.sh
    write_script ''
}

# write_script TEXT: what comes before its main.
write_script() {
    cat >"$script" <<END
set -euo pipefail
for part in log duration config options versions; do source "$deployment/lib/\$part.sh"; done
usage() { echo 'usage: demo.sh'; }
takes flag --dry-run
takes value --name --url --header --set --wait --number --format --to
takes optional --resume
take_option() {
    case \$1 in
        --url) needs_url "\$@" ;;
        --header) needs_header "\$@" ;;
        --set) needs_setting "\$@" ;;
        --wait) needs_duration "\$@" ;;
        --number) needs_number "\$@" 999 ;;
        --format) needs_one_of "\$@" text json ;;
        --to) needs_version "\$@" ;;
    esac
    echo "\$1<\$2>"
}
$1
main() {
    options_read "\$@"
    echo end
}
{
    main "\$@"
    exit
}
END
}

# reads OUTPUT WORD...: the words are right, and give this.
reads() {
    run -0 --separate-stderr bash "$script" "${@:2}"
    echo "got: $output"
    [[ $output == "${1:+$1$'\n'}end" ]]
}

# refuses TEXT WORD...: 64, and all of the message.
refuses() {
    run -64 --separate-stderr bash "$script" "${@:2}"
    # shellcheck disable=SC2154 # bats sets it
    echo "got: $stderr"
    [[ $stderr == *" error: $1; see demo.sh --help" ]]
    [[ $output != *end* ]]
}

@test "nothing is right, and so is nothing after --" {
    reads ''
    reads '' --
}

@test "a flag is yes, and takes no value" {
    reads '--dry-run<yes>' --dry-run
    refuses '--dry-run takes no value' --dry-run=yes
    refuses '--dry-run takes no value' --dry-run=
}

@test "a value is the next word or comes after =" {
    reads '--name<a b>' --name 'a b'
    reads '--name<a b>' '--name=a b'
    reads '--name<a=b=>' --name=a=b=
    reads $'--name<1>\n--dry-run<yes>\n--name<2>' --name 1 --dry-run --name=2
}

@test "a value may look like an option" {
    reads '--name<--dry-run>' --name --dry-run
    reads '--name<-1>' --name -1
    reads '--name<-->' --name --
    reads '--name<--help>' --name --help
}

@test "a value that is missing or empty is refused" {
    refuses '--name needs a value that is not empty' --name
    refuses '--name needs a value that is not empty' --name ''
    refuses '--name needs a value that is not empty' --name=
}

@test "an optional value is the next word, unless that is an option" {
    reads '--resume<>' --resume
    reads $'--resume<>\n--dry-run<yes>' --resume --dry-run
    reads '--resume<folder>' --resume folder
    reads '--resume<folder>' --resume=folder
    reads '--resume<-folder>' --resume=-folder
    reads '--resume<>' --resume --
    refuses '--resume needs a value that is not empty' --resume=
    refuses '--resume needs a value that is not empty' --resume ''
}

@test "an option that is not known is refused, with the nearest that is" {
    refuses "unknown option '--nmae' (did you mean --name?)" --nmae x
    refuses "unknown option '--dryrun' (did you mean --dry-run?)" --dryrun
    refuses "unknown option '--hel' (did you mean --help?)" --hel
    refuses "unknown option '--urls' (did you mean --url?)" --urls=x
    run -64 bash "$script" -n
    run -64 bash "$script" -
    run -64 bash "$script" --=x
    # shellcheck disable=SC2016 # nothing of it may be run
    run -64 bash "$script" '--a[$(touch '"$BATS_TEST_TMPDIR/run"')]'
    [[ ! -e $BATS_TEST_TMPDIR/run ]]
}

@test "an argument is refused by a script that takes none" {
    refuses "unexpected argument 'x'" x
    refuses "unexpected argument 'x'" --dry-run x
    refuses "unexpected argument '--dry-run'" -- --dry-run
    refuses "unexpected argument ''" ''
}

@test "a script's own take_argument gets each of them, and all after --" {
    # shellcheck disable=SC2016 # for the script
    write_script 'take_argument() { echo "argument<$1>"; }'
    reads $'argument<a>\n--name<n>\nargument<b c>\n--dry-run<yes>\nargument<d>' a --name n 'b c' --dry-run d
    reads $'argument<a>\nargument<--dry-run>\nargument<-->' a -- --dry-run --
}

@test "what take_option and take_argument set is set for the script" {
    # shellcheck disable=SC2016 # for the script
    write_script 'take_argument() { name=$1 value=$1 argument=$1 word=$1; }
        trap '"'"'echo "$name $value $argument $word"'"'"' EXIT'
    run -0 bash "$script" x
    [[ $output == $'end\nx x x x' ]]
    run -0 bash "$script" -- x
    [[ $output == $'end\nx x x x' ]]
    run -0 bash "$script" --name 1 x --resume
    [[ $output == $'--name<1>\n--resume<>\nend\nx x x x' ]]
}

@test "a script of commands gets the first argument and all that follows, unread" {
    # shellcheck disable=SC2016 # for the script
    write_script 'take_command() { printf "word<%s>\n" "$@"; }'
    reads $'--dry-run<yes>\nword<run>\nword<--dry-run>\nword<--nonsense>\nword<>\nword<-->' \
        --dry-run run --dry-run --nonsense '' --
    reads $'word<--run>\nword<x>' -- --run x
    reads ''
}

@test "--help is on stdout, and nothing after it is read" {
    run -0 --separate-stderr bash "$script" --dry-run --help --nonsense
    [[ $output == $'--dry-run<yes>\nusage: demo.sh' ]]
    run -0 bash "$script" -h
    refuses '--help takes no value' --help=x
}

@test "what a value must look like" {
    local number
    reads '--url<https://shop.example.com/x>' --url https://shop.example.com/x
    refuses "--url takes a URL such as http://127.0.0.1:8080, not 'shop:80'" --url shop:80
    refuses "--url takes a URL such as http://127.0.0.1:8080, not 'http://'" --url http://
    reads '--header<X-Canary: always>' --header 'X-Canary: always'
    refuses "--header takes 'NAME: VALUE', not 'X-Canary'" --header X-Canary
    run -64 bash "$script" --header $'X-Canary: always\nHost: other'
    reads '--set<a_b=>' --set a_b=
    refuses "--set takes NAME=VALUE, not 'a-b=1'" --set a-b=1
    reads '--wait<1m30s>' --wait 1m30s
    refuses "--wait takes a duration such as 90s or 1m30s, not '90'" --wait 90
    reads '--number<999>' --number 999
    for number in 0 1000 08 1s -1 99999999999999999999 'x[0]'; do
        refuses "--number takes a whole number from 1 to 999, not '$number'" --number "$number"
    done
    reads '--format<json>' --format json
    refuses "--format takes one of text json, not 'text json'" --format 'text json'
    reads '--to<1.2.3-rc_1>' --to 1.2.3-rc_1
    refuses "--to takes letters, digits, '.', '_' and '-', not 'a/b'" --to a/b
}

# --- each script -----------------------------------------------------------------------------------------------------

# taken SCRIPT: the options that it takes, one a line.
taken() {
    sed -e ':a' -e '/\\$/N; s/\\\n//; ta' "$deployment/$1.sh" |
        awk '/^takes / { for (i = 3; i <= NF; i++) print $i }' | sort
}

@test "these are all scripts" {
    local files=("$deployment"/*.sh)
    files=("${files[@]##*/}")
    [[ "${files[*]%.sh}" == "${scripts[*]}" ]]
}

@test "--help of each script names all options that it takes, and no other" {
    local name
    for name in "${scripts[@]}"; do
        run -0 --separate-stderr "$deployment/$name.sh" --help
        [[ $output == usage:* ]]
        echo "$name.sh: its options against those of its help"
        diff <(taken "$name") <(grep -oE '^  --[a-z-]+' <<<"$output" | tr -d ' ' | grep -vx -- --help | sort)
    done
}

# What take_option has no branch for would be accepted and ignored.
@test "each script does something with each option that it takes" {
    local name option
    for name in "${scripts[@]}"; do
        for option in $(taken "$name"); do
            grep -qE -- "^ +(--[a-z-]+ \| )*$option( \| --[a-z-]+)*\)" "$deployment/$name.sh" || {
                echo "$name.sh: $option"
                return 1
            }
        done
    done
}

@test "each script refuses what it does not know before it looks at anything else" {
    local name
    for name in "${scripts[@]}"; do
        run -64 "$deployment/$name.sh" --config /nowhere --nonsense
        [[ $output == *"unknown option '--nonsense' (did you mean "*"); see $name.sh --help" ]]
    done
}

@test "the commands of stack.sh refuse what they do not know" {
    local words
    for words in '' '--dry-run' 'nonsense' 'down --force' 'down x' 'status --format xml' 'versions --format' 'stop' \
        'stop stable --now' 'stop --force' 'migrate' 'migrate 2 3' 'migrate 2 --volumes' 'up x' '--format json status'; do
        # shellcheck disable=SC2086 # the words of each line are the arguments
        run "$deployment/stack.sh" $words
        echo "$words: $status $output"
        [[ $status == 64 && $output == *'; see stack.sh --help' ]]
    done
}

@test "each script ends with main and exit in one pair of braces" {
    local name
    for name in "${scripts[@]}"; do
        # shellcheck disable=SC2016 # as it is written
        [[ $(tail -n 4 -- "$deployment/$name.sh") == $'{\n    main "$@"\n    exit\n}' ]]
    done
}

@test "a script that is replaced while it runs goes on as it was" {
    # shellcheck disable=SC2016 # for the script
    write_script 'take_argument() { for _ in {1..500}; do echo echo replaced; done | tee "$0" >/dev/null; }'
    reads '' now
    [[ $(head -n 1 -- "$script") == 'echo replaced' ]]
}
