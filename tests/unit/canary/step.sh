#!/usr/bin/env bash
#
# A command of the settings, for tests of the order of things: `step.sh NAME WORD...` writes its words to $PLAYER/journal,
# in which the player of haldane's answers keeps a record too. $PLAYER/step-NAME, or $PLAYER/step-NAME-WORD for its first
# word, holds a shell command that says what it then does.
set -euo pipefail

printf '%s\n' "$*" >>"$PLAYER/journal"
for file in "$PLAYER/step-$1-${2:-}" "$PLAYER/step-$1"; do
    [[ ! -e $file ]] || exec bash "$file"
done
