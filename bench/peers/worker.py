"""The worker's side of bench/runner/worker.hpp, for peers in Python: one line for each timed turn, until stdin ends."""

import json
import os
import sys
import time
import traceback

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
    return {"seconds": total / calls, "calls": calls}


def serve(prepare, warm_up_calls=WARM_UP_CALLS, peak_bytes=lambda: resident("VmHWM"), accuracy=None, trained_parameters=None):
    """prepare(case) gives the peer's name with its version, and the call to time; case is None at the start. A worker whose
    cases are told later gives no call then. `peak_bytes` tells whose memory counts, `accuracy` what the last call trained, and
    `trained_parameters` how many parameters a call trains."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not disturb the protocol

    def answer(message):
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    def start(case):
        try:
            name, call = prepare(case)
            base = resident("VmRSS")
            for _ in range(warm_up_calls if call else 0):
                call()
            hello = {"peer": name, "base_bytes": base}
            answer({**hello, "trained_parameters": trained_parameters()} if trained_parameters else hello)
            return call
        except Exception as error:  # whatever it is, the runner's row says so
            traceback.print_exc()
            answer({"error": f"{type(error).__name__}: {error}"[:400]})
            return None

    call = start(None)
    for line in sys.stdin:
        word, _, rest = line.partition(" ")
        if word == "case":
            call = None  # frees the one before
            call = start(json.loads(rest))
        else:
            reply = {**turn(call, float(rest)), "peak_bytes": peak_bytes()}
            answer({**reply, "accuracy": accuracy()} if accuracy else reply)
