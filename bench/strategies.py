"""Accuracy of strategies over seeds, after the last epoch.

usage: strategies.py PROGRAMS FOLDER --weights F --ways WAY... --json OUT [--seeds 5] [--threads T]

A WAY is what finetune_images takes behind --strategy, such as "features" or "finetune --regularizer l2_sp". Each is run with seeds
0, 1, ... OUT grows with each run: a call that was cut goes on where it stopped. bench/report.py makes tables of the files in
bench/results/strategies.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess


def run(options, way, seed):
    command = [str(options.programs / "finetune_images"), options.folder, "--weights", options.weights, "--quiet", "--threads",
               str(options.threads), "--seed", str(seed), "--strategy", *way.split()]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def save(path, report):
    rows = ",\n".join(json.dumps(row) for row in report["rows"])
    rest = {key: value for key, value in report.items() if key != "rows"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_text(json.dumps(rest)[:-1] + f',\n"rows": [\n{rows}\n]}}\n')
    os.replace(path.with_suffix(".part"), path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path, help="folder of finetune_images")
    parser.add_argument("folder", help="train/<class>/... and val/<class>/...")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--ways", nargs="+", required=True)
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()

    report = {"data": pathlib.Path(options.folder).name, "weights": pathlib.Path(options.weights).stem, "rows": []}
    if options.json.exists():
        known = json.loads(options.json.read_text())
        if any(known[key] != report[key] for key in ("data", "weights")):
            raise SystemExit(f"{options.json}: is of {known['weights']} on {known['data']}; name another file")
        report = known
    for way in options.ways:
        for seed in range(options.seeds):
            if any(row["way"] == way and row["seed"] == seed for row in report["rows"]):
                continue
            result = run(options, way, seed)
            report["rows"].append({"way": way, "seed": seed, "accuracy": result["val_accuracy"],
                                   "train_images": result["train_images"], "val_images": result["val_images"],
                                   "trainable_parameters": result["trainable_parameters"]})
            save(options.json, report)
        accuracies = [100 * row["accuracy"] for row in report["rows"] if row["way"] == way]
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0
        print(f"{way:40} {statistics.mean(accuracies):6.2f} % +- {spread:.2f}  {len(accuracies)} seeds", flush=True)


if __name__ == "__main__":
    main()
