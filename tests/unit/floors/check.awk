# Reads the table of floors from docs/architecture.md, then every C file of the tree, and says which includes break the
# house's rules. Run from the root of the tree:
#
#     awk -f check.awk docs/architecture.md FILE...
#
# A row of the table is `| floor | folder | pure | holds |`: floor a number, the ground floor 1, or "apart" for what may
# include base alone. Exit code 1 if a rule is broken, 2 if the table cannot be read.

function trim(text)
{
    gsub(/^[ `]+|[ `\/]+$/, "", text)
    return text
}

# The folder of the table that a path is in: the longest one.
function home(path,    folder, best)
{
    best = ""
    for (folder in floor)
        if (index(path, folder "/") == 1 && length(folder) > length(best))
            best = folder
    return best
}

function complain(text)
{
    printf "%s:%d: %s\n", FILENAME, FNR, text
    bad = 1
}

function check_include(target,    to)
{
    to = home(target)
    if (to == "")
        complain("includes \"" target "\", which names no folder of the house; write it from the root")
    else if (to == here)
        return
    else if (floor[here] == "apart") {
        if (to != "base")
            complain(here " stands apart and may include base alone, not \"" target "\"")
    } else if (floor[to] == "apart" || floor[to] + 0 > floor[here] + 0)
        complain("an arrow points up: " here " includes \"" target "\"")
    else if (floor[to] == floor[here])
        complain("an arrow points sideways: " here " includes \"" target "\"")
}

BEGIN {
    FS = "|"
    impure_header = "<(sys/socket|sys/un|netdb|poll|netinet/.*|arpa/.*|fcntl|curl/.*|sqlite3|microhttpd)[.]h>"
    clock_or_world = "(^|[^a-z_])(time\\((NULL|0|&)|(clock|clock_gettime|gettimeofday|timespec_get|nanosleep|sleep|" \
        "getenv|fopen|open|socket|system|popen|rand|random|getrandom)\\()"
    print_call = "(^|[^a-z_])(printf|puts|putchar|perror|vprintf)\\(|[^a-z_]stderr[^a-z_]"
}

FILENAME ~ /architecture[.]md$/ {
    if ($0 ~ /^\| *([0-9]+|apart) *\|/) {
        folder = trim($3)
        floor[folder] = trim($2)
        pure[folder] = trim($4) == "yes"
        folders++
    }
    next
}

FNR == 1 {
    if (folders < 2) {
        print "docs/architecture.md has no table of floors"
        unreadable = 1
        exit
    }
    here = home(FILENAME)
    if (here == "")
        complain("is in a folder that the table of docs/architecture.md does not name")
}

here == "" || /^ *(\/\*|\*|\/\/)/ {
    next
}

/^ *# *include *"/ {
    target = $0
    sub(/^[^"]*"/, "", target)
    sub(/".*/, "", target)
    check_include(target)
}

pure[here] && $0 ~ impure_header {
    complain(here " is pure and includes the outside world: " $0)
}

pure[here] && $0 ~ clock_or_world {
    complain(here " is pure and asks a clock, a file or the world: " $0)
}

# base/memory.c says that memory is gone and ends the process: there is nobody left to hand an error to.
here != "analyzer/cli" && floor[here] != "apart" && FILENAME != "base/memory.c" && $0 ~ print_call {
    complain(here " is a library and prints: " $0)
}

END {
    exit unreadable ? 2 : bad
}
