"""Compiles one file and checks the processor time and the memory that it takes.

usage: measure.py MAX_SECONDS MAX_MEGABYTES COMPILER ARGUMENT...
"""
import os
import sys

max_seconds, max_megabytes, command = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
_, status, usage = os.wait4(os.spawnvp(os.P_NOWAIT, command[0], command), 0)
if status != 0:
    sys.exit("the program does not compile")
# Time of the processor, not of the clock: other work on the machine must not fail the test.
seconds, megabytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
print(f"{seconds:.1f} s of at most {max_seconds:g}, {megabytes:.0f} MB of at most {max_megabytes:g}")
sys.exit(seconds > max_seconds or megabytes > max_megabytes)
