"""Builds and runs project/ with the compiler alone, header-only and with tl/compiled.hpp, and checks that a program
cannot mix the two.

usage: plain.py COMPILER INCLUDE_FOLDER
"""
import subprocess
import sys
import tempfile
from pathlib import Path

compiler, include = sys.argv[1:]
project = Path(__file__).parent / "project"


def build(folder, name, *arguments):
    output = folder / name
    command = [compiler, "-std=c++20", "-I", include, *map(str, arguments), "-o", str(output), "-pthread"]
    print("+", *command, flush=True)
    return output, subprocess.run(command, capture_output=True, text=True)


def build_and_run(folder, name, *arguments):
    program, result = build(folder, name, *arguments)
    if result.returncode != 0:
        sys.exit(result.stderr)
    subprocess.run([program], check=True)


with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary)
    build_and_run(folder, "header_only", project / "main.cpp")

    engine, result = build(folder, "engine.o", "-DTL_COMPILED", "-c", project / "engine.cpp")
    if result.returncode != 0:
        sys.exit(result.stderr)
    build_and_run(folder, "compiled", "-DTL_COMPILED", project / "main.cpp", engine)

    # A file compiled the other way has definitions, but under names of their own.
    other, result = build(folder, "other.o", "-Dmain=other", "-c", project / "main.cpp")
    _, result = build(folder, "mixed", "-DTL_COMPILED", project / "main.cpp", other)
    if result.returncode == 0 or "abi_v0_compiled" not in result.stderr:
        sys.exit("a program may mix files that are compiled with and without TL_COMPILED: " + result.stderr)
