"""Checks that each case in cases/ is refused by the compiler, with the words of its first line.

usage: run.py COMPILER INCLUDE_FOLDER

A case begins with `// error: REGEX`. Everything but the part between `#if MISTAKE` and `#endif` is correct code: without
MISTAKE defined the case must compile, so that it fails for its reason and no other.
"""
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

compiler, include = sys.argv[1:]


def compile_case(case, mistake):
    command = [compiler, "-std=c++20", "-fsyntax-only", "-DTL_COMPILED", f"-DMISTAKE={mistake}", "-I", include, str(case)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})


def problem(case):
    expected = re.match(r"// error: (.*)\n", case.read_text())
    if not expected:
        return "has no line `// error: REGEX`"
    correct = compile_case(case, 0)
    if correct.returncode != 0:
        return "does not compile without its mistake:\n" + correct.stderr
    wrong = compile_case(case, 1)
    if wrong.returncode == 0:
        return "compiles with its mistake"
    if not re.search(expected[1], wrong.stderr):
        return f"fails without the words {expected[1]!r}:\n{wrong.stderr}"
    return None


cases = sorted((Path(__file__).parent / "cases").glob("*.cpp"))
with ThreadPoolExecutor(os.cpu_count()) as pool:
    results = list(pool.map(problem, cases))
for case, result in zip(cases, results):
    print(f"{case.name}: {result or 'ok'}")
sys.exit(bool(any(results) or not cases))
