"""The worker's side of bench/runner/worker.hpp, for peers in Python: one line for each timed turn, until stdin ends."""

import json
import os
import sys
import time

WARM_UP_CALLS = 3
SHORT_CALL = 0.1


def resident(entry):
    """VmHWM (the peak) or VmRSS (now) of this process, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(entry))


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def turn(call, seconds):
    """The mean of calls during about `seconds`; short calls have one more before, which warms the caches up."""
    total = timed(call)
    calls = 1
    if total < SHORT_CALL and total < seconds:
        total, calls = 0.0, 0
    while calls == 0 or total < seconds:
        total += timed(call)
        calls += 1
    return {"seconds": total / calls, "calls": calls, "peak_bytes": resident("VmHWM")}


def serve(prepare):
    """prepare() gives the peer's name with its version, and the call to time."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not disturb the protocol

    def answer(message):
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        name, call = prepare()
        base = resident("VmRSS")
        for _ in range(WARM_UP_CALLS):
            call()
        answer({"peer": name, "base_bytes": base})
        for line in sys.stdin:
            answer(turn(call, float(line.split()[1])))
    except Exception as error:  # whatever it is, the runner's row says so
        answer({"error": f"{type(error).__name__}: {error}"[:400]})
        raise
