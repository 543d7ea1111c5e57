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


def run(*command, check=True):
    print("+", *command, flush=True)
    result = subprocess.run(command, capture_output=True, text=True)
    print(result.stdout + result.stderr, end="", flush=True)
    if check and result.returncode != 0:
        sys.exit(1)
    return result


with tempfile.TemporaryDirectory() as folder:

    def compile_to(name, source, *flags):
        run(compiler, "-std=c++20", "-I", include, *flags, "-c", str(project / source), "-o", f"{folder}/{name}.o")
        return f"{folder}/{name}.o"

    def link(name, *objects, check=True):
        return run(compiler, *objects, "-pthread", "-o", f"{folder}/{name}", check=check)

    header_only = compile_to("header_only", "main.cpp")
    link("header_only", header_only)
    run(f"{folder}/header_only")

    link("compiled", compile_to("main", "main.cpp", "-DTL_COMPILED"), compile_to("engine", "engine.cpp", "-DTL_COMPILED"))
    run(f"{folder}/compiled")

    # A file compiled the other way has the definitions, but under names of their own.
    other = compile_to("other", "main.cpp", "-DTL_COMPILED", "-Dmain=other")
    mixed = link("mixed", header_only, other, check=False)
    if mixed.returncode == 0 or "abi_v0_compiled" not in mixed.stderr:
        sys.exit("a program may mix files that are compiled with and without TL_COMPILED")
