#!/usr/bin/env python3
"""Line coverage of include/tl from the counts that a --coverage build left behind.

usage: coverage.py BUILD_FOLDER [--fail-under PERCENT] [--lines]

A header is compiled into many objects: a line counts as executed if it ran in any of them, and as code if it is code in
any of them. --lines also prints the ranges of lines that never ran.
"""
import argparse
import json
import os
import subprocess
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = ROOT / "include"


def read_counts(data_file, gcov):
    """Yields (file, line, count) of one object."""
    result = subprocess.run([gcov, "--json-format", "--stdout", data_file.name], cwd=data_file.parent,
                            capture_output=True, check=True)
    out = []
    for document in result.stdout.splitlines():
        report = json.loads(document)
        for file in report["files"]:
            path = Path(report["current_working_directory"], file["file"]).resolve()
            if path.is_relative_to(INCLUDE):
                out += [(path, line["line_number"], line["count"]) for line in file["lines"]]
    return out


def ranges(lines):
    """[1, 2, 3, 7] -> 1-3, 7"""
    parts = []
    for line in sorted(lines):
        if parts and line == parts[-1][1] + 1:
            parts[-1][1] = line
        else:
            parts.append([line, line])
    return ", ".join(f"{first}-{last}" if first != last else f"{first}" for first, last in parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--fail-under", type=float, default=0, metavar="PERCENT")
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--gcov", default="gcov")
    arguments = parser.parse_args()

    executed = defaultdict(lambda: defaultdict(bool))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for counts in pool.map(lambda file: read_counts(file, arguments.gcov), arguments.build.rglob("*.gcda")):
            for file, line, count in counts:
                executed[file][line] |= count > 0
    if not executed:
        parser.error(f"{arguments.build} holds no counts of include/: build it with --coverage and run the tests")

    code = hits = 0
    for file, lines in sorted(executed.items()):
        ran = sum(lines.values())
        code, hits = code + len(lines), hits + ran
        print(f"{100 * ran / len(lines):6.1f} %  {ran:5} of {len(lines):5}  {file.relative_to(ROOT)}")
        if arguments.lines and ran < len(lines):
            print(f"          never: {ranges(line for line, run in lines.items() if not run)}")
    percent = 100 * hits / code
    print(f"{percent:6.1f} %  {hits:5} of {code:5}  total")
    if percent < arguments.fail_under:
        raise SystemExit(f"error: line coverage is below {arguments.fail_under:g} %")


if __name__ == "__main__":
    main()
