"""Do the scores that choose before training order networks as training does?

usage: transferability_rank.py PROGRAMS --weights F... --data NAME=FOLDER[:EXTENSION]... --json OUT
           [--strategies features,finetune] [--per-class 30] [--epochs 4] [--val-limit 200] [--seeds 1] [--threads T]

For each data set every file of weights is scored by recommend_images and taught by finetune_images, on the same pictures.
The rank correlations of scores and accuracies (Kendall's tau-b and Spearman's rho) stand in OUT with the number of pairs,
and as a table on stdout. OUT grows with each run: a call that was cut goes on where it stopped.
"""
import argparse
import itertools
import json
import math
import os
import pathlib
import statistics
import subprocess

SCORES = ("log_me", "shrunk_h_score", "trans_rate", "leep", "nce")


def kendall(x, y):
    """Tau-b: (concordant - discordant) / sqrt(pairs without a tie in x * pairs without a tie in y)."""
    signs = [((a > c) - (a < c), (b > d) - (b < d)) for (a, b), (c, d) in itertools.combinations(zip(x, y), 2)]
    untied = sum(s != 0 for s, _ in signs) * sum(t != 0 for _, t in signs)
    return sum(s * t for s, t in signs) / math.sqrt(untied) if untied else None


def ranks(values):
    """From 1; equal values share the mean of their ranks."""
    return [sum(other < v for other in values) + (sum(other == v for other in values) + 1) / 2 for v in values]


def spearman(x, y):
    x, y = ranks(x), ranks(y)
    return statistics.correlation(x, y) if len(set(x)) > 1 and len(set(y)) > 1 else None


def last_line(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def correlations(rows, strategies):
    """For each data set, strategy and score: both correlations over the files for which there is a score."""
    for data, strategy, score in itertools.product(dict.fromkeys(r["data"] for r in rows), strategies, SCORES):
        pairs = [(r[score], statistics.mean(r["accuracy"][strategy].values())) for r in rows
                 if r["data"] == data and r[score] is not None and r["accuracy"].get(strategy)]
        if len(pairs) >= 3:
            x, y = zip(*pairs)
            yield {"data": data, "strategy": strategy, "score": score, "files": len(pairs),
                   "pairs": len(pairs) * (len(pairs) - 1) // 2, "kendall": kendall(x, y), "spearman": spearman(x, y)}


def print_table(rows, found, strategies):
    print(f"{'data':16} {'weights':28} {'LogME':>8} " + " ".join(f"{s:>10}" for s in strategies))
    for r in sorted(rows, key=lambda r: (r["data"], -r["log_me"])):
        accuracies = (statistics.mean(r["accuracy"][s].values()) if r["accuracy"].get(s) else math.nan for s in strategies)
        print(f"{r['data']:16} {r['weights']:28} {r['log_me']:8.3f} " + " ".join(f"{100 * a:8.1f} %" for a in accuracies))
    print(f"\n{'data':16} {'strategy':10} {'score':15} {'pairs':>5} {'Kendall':>8} {'Spearman':>8}")
    shown = lambda value: f"{value:8.2f}" if value is not None else f"{'-':>8}"
    for f in found:
        print(f"{f['data']:16} {f['strategy']:10} {f['score']:15} {f['pairs']:5} {shown(f['kendall'])} {shown(f['spearman'])}")


def lines_of(report):
    """JSON with one row a line."""
    parts = []
    for key, value in report.items():
        listed = isinstance(value, list) and value
        text = "[\n" + ",\n".join(json.dumps(row) for row in value) + "\n]" if listed else json.dumps(value)
        parts.append(f"{json.dumps(key)}: {text}")
    return "{" + ",\n".join(parts) + "}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path, help="folder of finetune_images and recommend_images")
    parser.add_argument("--weights", nargs="+", required=True)
    parser.add_argument("--data", nargs="+", required=True, help="NAME=FOLDER, or NAME=FOLDER:jpg where only such files are pictures")
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument("--strategies", default="features,finetune")
    parser.add_argument("--per-class", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=4, help="of strategies in which all layers learn")
    parser.add_argument("--val-limit", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each, with seeds 0, 1, ...")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    strategies = options.strategies.split(",")

    settings = {"per_class": options.per_class, "epochs": options.epochs, "val_limit": options.val_limit}
    report = {"schema": 1, "settings": settings, "correlations": [], "rows": []}
    if options.json.exists():
        report = json.loads(options.json.read_text())
        if report["settings"] != settings:
            raise SystemExit(f"{options.json}: was made with other settings; name another file")

    def save():
        report["correlations"] = list(correlations(report["rows"], strategies))
        text = lines_of(report)
        options.json.with_suffix(".part").write_text(text + "\n")
        os.replace(options.json.with_suffix(".part"), options.json)

    for name, folder in (entry.split("=", 1) for entry in options.data):
        folder, _, extensions = folder.partition(":")
        common = [folder, "--per-class", str(options.per_class), "--quiet", "--threads", str(options.threads)]
        common += ["--extensions", extensions] if extensions else []
        known = {(r["data"], r["weights"]): r for r in report["rows"]}
        missing = [w for w in options.weights if (name, pathlib.Path(w).stem) not in known]
        if missing:
            advice = last_line([str(options.programs / "recommend_images"), *common, "--pictures", "1000", "--weights", *missing])
            for c in advice["candidates"]:
                row = {"data": name, "weights": pathlib.Path(c["weights"]).stem, "arch": c["arch"],
                       "train_images": advice["train_images"], **{s: c[s] for s in SCORES},
                       "above_chance": c["above_chance"], "accuracy": {}}
                report["rows"].append(row)
                known[name, row["weights"]] = row
            save()
        for weights, strategy, seed in itertools.product(options.weights, strategies, range(options.seeds)):
            accuracy = known[name, pathlib.Path(weights).stem]["accuracy"].setdefault(strategy, {})
            if str(seed) in accuracy:
                continue
            epochs = [] if strategy == "features" else ["--epochs", str(options.epochs)]
            result = last_line([str(options.programs / "finetune_images"), *common, "--weights", weights, "--strategy", strategy,
                                "--val-limit", str(options.val_limit), "--seed", str(seed), *epochs])
            accuracy[str(seed)] = result["val_accuracy"]
            save()
    print_table(report["rows"], report["correlations"], strategies)


if __name__ == "__main__":
    main()
