#!/usr/bin/env python3
"""Checks that includes point only to lower layers and not in circles, that tl/tl.hpp brings every header, and that
tl/compiled.hpp lists every definition file.

usage: check_includes.py [--write]      --write rewrites the list in tl/compiled.hpp
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = ROOT / "include"

# Left to right. Folders of one layer do not include each other, but for the exceptions below.
LAYERS = [
    ["core"],
    ["cpu", "cuda"],
    ["tensor"],
    ["autograd"],
    ["ops"],
    ["nn"],
    ["optim", "io", "data", "text"],
    ["transfer", "adapt"],
    ["models"],
    ["train"],
    ["tl.hpp", "compiled.hpp"],
]
SAME_LAYER = {
    ("cuda", "cpu"),  # a kernel's arguments are declared once, in cpu/, and read by both backends
    ("data", "io"),  # an image folder reads images
}
RANK = {folder: rank for rank, layer in enumerate(LAYERS) for folder in layer}
# kernels/ is compiled by nvcc, which never parses a Tensor.
KERNELS_MAY_INCLUDE = {"core", "cpu", "cuda"}

INCLUDE_LINE = re.compile(r'^\s*#\s*include\s+([<"])([^">]+)[">]', re.MULTILINE)


def layer_of(path):
    """tl/ops/conv.hpp -> ops; tl/tl.hpp -> tl.hpp"""
    return path.split("/")[1]


def project_includes(file):
    for match in INCLUDE_LINE.finditer(file.read_text()):
        if match[2].startswith("tl/") or match[1] == '"':
            yield match[0].strip(), match[2]


def check_layers():
    for file in sorted(INCLUDE.rglob("*.[hi][pn][pl]")):
        name = file.relative_to(INCLUDE).as_posix()
        own = layer_of(name)
        if own not in RANK:
            yield f"{name}: {own} is in no layer; add it to LAYERS in scripts/check_includes.py"
            continue
        for line, included in project_includes(file):
            if line != f'#include "{included}"' or not included.startswith("tl/"):
                yield f'{name}: {line}: write #include "tl/..."'
                continue
            other = layer_of(included)
            if not (INCLUDE / included).exists():
                yield f"{name}: {line}: there is no such file"
            elif own != other and RANK[other] >= RANK[own] and (own, other) not in SAME_LAYER:
                yield f"{name}: {line}: {own} may not include {other}, which is not to its left"


def check_order():
    """A header that is met again while it is being read is skipped by its guard: code after that include does not
    compile. Headers that end with `#include "X.inl"`, as all do header-only, are whole by then."""
    includes = {}  # file -> [(included, whether code follows)]
    for file in INCLUDE.rglob("*.[hi][pn][pl]"):
        text = file.read_text()
        includes[file.relative_to(INCLUDE).as_posix()] = [
            (match[2], any(line and line[0] != "#" for line in text[match.end() :].splitlines()[1:]))
            for match in INCLUDE_LINE.finditer(text)
            if match[2].startswith("tl/") and (INCLUDE / match[2]).exists()
        ]

    def visit(name, unfinished, seen):
        seen.add(name)
        for included, code_follows in includes[name]:
            if included in unfinished and code_follows:
                yield name, included
            elif included not in seen:
                yield from visit(included, unfinished | {name} if code_follows else unfinished - {name}, seen)

    found = set()
    for root in sorted(includes):
        if root.endswith(".hpp") and root != "tl/compiled.hpp" and not root.startswith("tl/cpu/isa/"):
            found.update(visit(root, frozenset(), set()))
    for name, included in sorted(found):
        yield f'{name}: #include "{included}" may come while that header is still being read; break the circle'


def check_umbrella():
    """tl.hpp brings every header but the backends'."""
    reached, waiting = set(), ["tl/tl.hpp"]
    while waiting:
        name = waiting.pop()
        if name not in reached and (INCLUDE / name).exists():
            reached.add(name)
            waiting += [included for _, included in project_includes(INCLUDE / name)]
    for file in sorted(INCLUDE.rglob("*.hpp")):
        name = file.relative_to(INCLUDE).as_posix()
        if name not in reached and layer_of(name) not in ("cpu", "cuda", "compiled.hpp"):
            yield f"tl/tl.hpp: {name} is missing"


def check_kernels():
    for pattern in ("*.cu", "*.cuh", "*.hpp"):
        for file in sorted((ROOT / "kernels").rglob(pattern)):
            for line, included in project_includes(file):
                if included.startswith("tl/") and layer_of(included) not in KERNELS_MAY_INCLUDE:
                    yield f"{file.relative_to(ROOT)}: {line}: kernels include only core, cpu and cuda"


def definition_files():
    """Every X.inl beside its X.hpp; another .inl is a part that one of them includes."""
    files = (file for file in INCLUDE.rglob("*.inl") if file.with_suffix(".hpp").exists())
    return sorted(file.relative_to(INCLUDE).as_posix() for file in files)


def check_compiled(write):
    path = INCLUDE / "tl/compiled.hpp"
    text = path.read_text()
    listed = re.findall(r'^#include "(tl/.*\.inl)"\n', text, re.MULTILINE)
    expected = definition_files()
    if write and listed != expected:
        head = text[: text.index("\n#include") + 1]
        path.write_text(head + "".join(f'#include "{file}"\n' for file in expected))
        return
    for file in sorted(set(expected) - set(listed)):
        yield f"tl/compiled.hpp: {file} is missing; run scripts/check_includes.py --write"
    for file in sorted(set(listed) - set(expected)):
        yield f"tl/compiled.hpp: {file} is no definition file; run scripts/check_includes.py --write"


def main():
    if sys.argv[1:] not in ([], ["--write"]):
        sys.exit(__doc__)
    problems = [*check_compiled(write=bool(sys.argv[1:]))]  # first, as --write mends what the others read
    for check in (check_layers, check_order, check_umbrella, check_kernels):
        problems += check()
    print("\n".join(problems) if problems else "includes are in order")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
