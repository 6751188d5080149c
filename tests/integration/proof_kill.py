"""Kills a process at a chosen moment of a rollout: so long after something appeared in the store.

usage: proof_kill.py STORE PIDS MOMENT COUNT MICROSECONDS PATIENCE

PIDS is a file that names processes, one a line, killed in that order; it is read at the last moment. Only those are
killed whose HALDANE_DB is STORE. MOMENT is `start`,
a name of the audit trail's events, `intent`, or `verdict`; COUNT says which of them, from 1. Prints the Unix
milliseconds of the kill, or nothing if the moment did not come within PATIENCE seconds.
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


def wait_for(path, moment, count, patience):
    seen = {"pending": False, "count": 0}
    until = time.monotonic() + patience
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
    path, pids, moment, count, microseconds, patience = sys.argv[1:]
    if moment != "start" and not wait_for(path, moment, int(count), float(patience)):
        return
    time.sleep(int(microseconds) / 1e6)
    with open(pids, encoding="ascii") as file:
        numbers = [int(line) for line in file]
    for number in numbers:
        if is_ours(number, path):
            os.kill(number, signal.SIGKILL)
    print(time.time_ns() // 1000000)


main()
