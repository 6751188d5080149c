"""Kills a process at a chosen moment of a rollout: so long after something appeared in the store.

usage: proof_kill.py STORE PIDS MOMENT COUNT MICROSECONDS PATIENCE

PIDS is a file that names processes, one a line, killed in that order; it is read at the last moment. Only those are
killed whose HALDANE_DB is STORE. MOMENT is `start`, a name of the audit trail's events, `intent`, or `verdict`; COUNT
says which of them, from 1. If it has not come after PATIENCE milliseconds, that is the moment. Prints the Unix
milliseconds of the kill, or nothing if nobody was there.
"""

import os
import signal
import sqlite3
import sys
import time

STEP = 0.0003


def has_come(store, moment, count, seen):
    if moment == "intent":
        pending = store.execute("SELECT count(*) FROM intents").fetchone()[0] > 0
        if pending and not seen["pending"]:
            seen["count"] += 1
        seen["pending"] = pending
        return pending and seen["count"] >= count
    if moment == "verdict":
        return store.execute("SELECT count(*) FROM verdicts").fetchone()[0] >= count
    return store.execute("SELECT count(*) FROM audit WHERE event = ?", (moment,)).fetchone()[0] >= count


def wait_for(path, moment, count, patience_ms):
    """True if the moment has come, False if it was waited for long enough."""
    seen = {"pending": False, "count": 0}
    until = time.monotonic() + patience_ms / 1e3
    store = None
    while time.monotonic() < until:
        try:
            if store is None:
                store = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
            if has_come(store, moment, count, seen):
                return True
        except sqlite3.Error:  # not there yet, or being set up
            store = None
        time.sleep(STEP)
    return False


def is_ours(number, path):
    """A number may have been given to another process since it was written down."""
    try:
        with open(f"/proc/{number}/environ", "rb") as file:
            return f"HALDANE_DB={path}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def main():
    path, pids, moment, count, microseconds, patience_ms = sys.argv[1:]
    if moment == "start" or wait_for(path, moment, int(count), int(patience_ms)):
        time.sleep(int(microseconds) / 1e6)
    with open(pids, encoding="ascii") as file:
        found = [int(line) for line in file]
    found = [number for number in found if is_ours(number, path)]
    for number in found:
        os.kill(number, signal.SIGKILL)
    if found:
        print(time.time_ns() // 1000000)


main()
