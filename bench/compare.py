"""Sets tl beside PyTorch: runs both alternately and prints a table of medians.

Usage: python3 bench/compare.py BUILD_FOLDER [--python PYTHON] [--rounds 3] [--batch 16] [--size 224] [--threads 2]
PYTHON is an interpreter with torch, torchvision and timm (default: this one). A noisy machine slows both sides; what counts
is the ratio within a round.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys


def last_json(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", help="file for all numbers")
    options = parser.parse_args()

    program = pathlib.Path(options.build) / "bench" / "bench_networks"
    peer = pathlib.Path(__file__).parent / "peers" / "torch_images.py"
    names = [f"{net}/{mode}" for net in ("resnet18", "mobilenet_v2", "efficientnet_lite0") for mode in ("inference", "training")]
    ours, theirs, versions = {}, {}, {}
    for _ in range(options.rounds):
        for name in names:
            common = ["--batch", str(options.batch), "--size", str(options.size), "--threads", str(options.threads),
                      "--runs", str(options.runs), "--filter", name]
            mine = last_json([str(program), *common])
            his = last_json([options.python, str(peer), *common])
            versions = {"tl": mine["tl"], "isa": mine["isa"], "peer": his["peer"]}
            ours.setdefault(name, []).append(next(r["samples_per_second"] for r in mine["rows"] if r["name"] == name))
            theirs.setdefault(name, []).append(next(r["samples_per_second"] for r in his["rows"] if r["name"] == name))

    rows = []
    print(f"tl {versions['tl']} ({versions['isa']}) and {versions['peer']}, batch {options.batch}, {options.size} x {options.size}, "
          f"{options.threads} threads, samples/s, median of {options.rounds} rounds")
    print(f"{'':32}{'tl':>10}{'peer':>10}{'ratio':>8}{'(range)':>16}")
    for name in names:
        ratios = [a / b for a, b in zip(ours[name], theirs[name])]
        row = {"name": name, "tl": statistics.median(ours[name]), "peer": statistics.median(theirs[name]),
               "ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}
        rows.append(row)
        print(f"{name:32}{row['tl']:10.1f}{row['peer']:10.1f}{row['ratio']:8.2f}    ({row['lowest']:.2f} to {row['highest']:.2f})")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({**versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
