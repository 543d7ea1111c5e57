#!/usr/bin/env python3
"""Collects the reports of the bench programs, and makes the tables and plots of the documentation from them.

Usage: report.py [--merge REPORT.json ...] [--results FILE.json]

--merge adds reports to bench/results/<machine>.json, where a row replaces the older one of the same case. Then, from that
file alone, README.md gets its tables (between the lines `<!-- bench -->` and `<!-- /bench -->`), docs/measurements.md all
rows, and docs/measurements/*.svg the plots. Python's standard library is enough.
"""

import argparse
import html
import json
import math
import pathlib
import re
import statistics

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PROGRAMS = ("peak", "gemm", "conv", "layers", "inference", "training", "frozen_step", "tuning", "cached_epochs",
            "cached_training", "startup", "loader", "finetune")
NAMES = {"resnet18": "ResNet-18", "mobilenet_v2": "MobileNetV2", "efficientnet_lite0": "EfficientNet-Lite0",
         "resnet20": "CIFAR ResNet-20", "encoder": "text encoder"}
TUNINGS = {"full": "everything", "recompute": "everything, blocks run again in backward", "lora": "LoRA of rank 8",
           "lora_attention": "LoRA of rank 8 on attention", "bottleneck": "bottlenecks of width 16", "ia3": "(IA)³",
           "norms": "norms", "biases": "biases", "head": "the head alone"}
FURTHER_NAMES = {"cifar_resnet20": "CIFAR ResNet-20", "lenet": "LeNet"}
TITLES = {
    "peak": "Limits of the machine",
    "gemm": "Matrix products, M x N x K",
    "conv": "Convolutions at batch 16",
    "layers": "Layers, losses and optimizers",
    "inference": "Predicting",
    "training": "Full training steps",
    "frozen_step": "Steps of the head on a frozen backbone",
    "tuning": "Steps in which few parameters learn",
    "cached_epochs": "Epochs on a frozen backbone whose results are kept",
    "cached_training": "Trainings of a head on ants and bees, on what is kept and on a backbone that runs anew",
    "startup": "Start-up",
    "loader": "Pictures",
    "finetune": "Fine-tuning from start to end",
}
DATA = {"hymenoptera_data": "ants and bees", "blood_cells_bccd": "blood cells", "magnetic_tile_defect": "magnetic tile",
        "fashion-mnist": "Fashion-MNIST"}


DATA_EFFICIENCY = (
    "Accuracy after the last epoch over training pictures per class: mean and deviation over seeds, each of which draws its "
    "own subset. A ratio says how many times more pictures, and seconds of a processor, a network from random weights takes "
    "than the strategy on pretrained ones for the same accuracy: means interpolated over the logarithm of pictures, the "
    "median and 5 to 95 % of a bootstrap over the seeds; ≥ where the fewest pictures that were tried already suffice, not "
    "reached where the most do not. Two or three seeds make a rough bootstrap.")


def machine_name(machine):
    words = f"{machine['cpu']} {machine['family']} {machine['model']} {machine['threads']} threads"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def identity(row):
    return tuple(row[part] for part in ("name", "shape", "threads", "precision"))


def one_row_a_line(known):
    """JSON in which a new measurement changes one line."""
    rest = json.dumps({key: value for key, value in known.items() if key != "programs"})
    programs = [f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"
                for name, rows in known["programs"].items()]
    return rest[:-1] + ',\n"programs": {\n' + ",\n".join(programs) + "\n}}\n"


def merge(files):
    """Puts the rows into their machine's file; returns that file."""
    target = None
    for file in files:
        report = json.loads(pathlib.Path(file).read_text())
        target = RESULTS / (machine_name(report["machine"]) + ".json")
        known = json.loads(target.read_text()) if target.exists() else {"programs": {}}
        known["machine"] = report["machine"]
        peaks = {peak["threads"]: peak for peak in known.get("peaks", [])}
        for peak in report["peaks"]:  # the most that any run has seen: others on the machine only take away
            most = peaks.setdefault(peak["threads"], peak)
            peaks[peak["threads"]] = {key: max(value, peak[key]) for key, value in most.items()}
        known["peaks"] = [peaks[threads] for threads in sorted(peaks)]
        rows = known["programs"].get(report["program"], [])
        new = {identity(row) for row in report["rows"]}
        known["programs"][report["program"]] = [row for row in rows if identity(row) not in new] + report["rows"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(one_row_a_line(known))
    return target


def number(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def megabytes(side):
    return number(side["peak_bytes"] / 1e6) if side.get("peak_bytes") else ""


def batch_of(row):
    return int(re.match(r"\[(\d+)", row["shape"])[1])


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] + ["---:"] * (len(head) - 1)) + " |"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def ratio(row):
    if row["ratio"] is None:
        return ""
    return f"**{row['ratio']:.2f}** ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"


def hold_against(peaks, rows):
    """Percent of the most that any run has seen, instead of what the row's own run saw."""
    most = {peak["threads"]: {"GFLOP/s": peak["gflops"], "bf16 GFLOP/s": peak["bf16_gflops"], "GB/s": peak["triad_gbs"]}
            for peak in peaks}
    for row in rows:
        if row["percent_of_peak"] is not None:
            row["percent_of_peak"] *= row["peak"] / most.get(row["threads"], {}).get(row["limit"], row["peak"])


def percent(row):
    return "" if row["percent_of_peak"] is None else f"{row['percent_of_peak']:.0f} %"


def best_peer(row):
    return next((peer for peer in row["peers"] if peer["name"] == row["peer_name"]), {})


def network_table(rows):
    """tl beside the best peer, of which only the name's first and last word fit."""
    out = []
    for row in rows:
        peer = best_peer(row)
        words = (row["peer_name"] or "").split()
        short = " ".join([words[0], *words[2:]]) if words else "none"
        out.append((NAMES[row["name"].split("/")[0]], batch_of(row), row["threads"], number(row["tl"]),
                    f"{number(row['peer'])} ({short})", ratio(row), percent(row), megabytes(row["own"]), megabytes(peer)))
    return table(("", "batch", "threads", "tl", "best peer", "ratio", "of peak", "tl, MB", "peer, MB"), out)


class Footnotes:
    """Cells of a table, and the reasons why some have no number, each told once below the table."""

    def __init__(self):
        self.reasons = []

    def dash(self, reason):
        reason = reason.removeprefix("RuntimeError: ")
        if reason not in self.reasons:
            self.reasons.append(reason)
        return f"– ({self.reasons.index(reason) + 1})"

    def cell(self, side, shown):
        return self.dash(side["error"]) if "error" in side else shown(side)

    def peer_cell(self, row, column):
        peer = next((peer for peer in row["peers"] if stands_for(peer, column)), None)
        return self.cell(peer, lambda side: number(side["median"])) if peer else ""

    def below(self, text):
        notes = [f"({i}) {reason}" for i, reason in enumerate(self.reasons, 1)]
        return "\n\n".join([text, *(["<br>\n".join(notes)] if notes else [])])


def peer_columns(rows):
    """The peers' names in order. One that failed before it said its version goes with one that did: "torch eager" with
    "torch 2 eager"."""
    peers = [peer for row in rows for peer in row["peers"]]
    columns = list(dict.fromkeys(peer["name"] for peer in peers if "error" not in peer))
    for peer in peers:
        if not any(stands_for(peer, column) for column in columns):
            columns.append(peer["name"])
    return columns


def stands_for(peer, column):
    return peer["name"] == column or "error" in peer and set(peer["name"].split()) <= set(column.split())


def all_peers_table(rows):
    columns, notes = peer_columns(rows), Footnotes()
    out = []
    for row in rows:
        spread = notes.cell(row["own"], lambda own: f"{number(own['median'])} ({number(own['min'])} to {number(own['max'])})")
        name = row["name"] if row["precision"] == "f32" else f"{row['name']}, {row['precision']}"
        out.append((name, row["shape"], row["threads"], row["unit"], spread, *(notes.peer_cell(row, column) for column in columns),
                    ratio(row), percent(row)))
    return notes.below(table(("", "shape", "threads", "unit", "tl", *columns, "ratio to the best", "of peak"), out))


def growth(side):
    """The peak, and how much of it is above what was there before the first step."""
    if not side.get("peak_bytes"):
        return ""
    return f"{megabytes(side)} (+{number((side['peak_bytes'] - side['base_bytes']) / 1e6)})"


def tuning_table(rows):
    columns, notes = peer_columns(rows), Footnotes()
    out = []
    for row in rows:
        network, way = row["name"].split("/")
        learns = TUNINGS[way] if way in ("full", "recompute", "head") else f"head and {TUNINGS[way]}"
        precision = "" if row["precision"] == "f32" else f", {row['precision']}"
        spread = notes.cell(row["own"], lambda own: f"{number(own['median'])} ({number(own['min'])} to {number(own['max'])})")
        out.append((f"{NAMES[network]}, batch {batch_of(row)}{precision}", learns,
                    f"{row['own'].get('trained_parameters', 0):,}", row["threads"], spread,
                    *(notes.peer_cell(row, column) for column in columns), ratio(row), growth(row["own"]), growth(best_peer(row))))
    return notes.below(table(("", "what learns", "parameters", "threads", "tl, ms", *(f"{column}, ms" for column in columns),
                              "ratio to the best", "tl, MB", "best peer, MB"), out))


def job_table(rows):
    out = []
    for row in rows:
        accuracies = [f"{100 * side['accuracy']:.1f} %" if "accuracy" in side else "" for side in (row["own"], best_peer(row))]
        out.append((f"{NAMES[row['name'].split('/')[0]]}, {row['shape']}", row["threads"], f"{number(row['tl'])} s",
                    f"{number(row['peer'])} s", ratio(row), *accuracies))
    return table(("", "threads", rows[0]["own"]["name"], row_peer(rows), "ratio", "accuracy", "of the peer"), out)


def row_peer(rows):
    return next((row["peer_name"] for row in rows if row["peer_name"]), "peer")


def peak_table(peaks):
    return table(("threads", "f32 GFLOP/s", "bf16 GFLOP/s", "read GB/s", "triad GB/s"),
                 [(p["threads"], *(number(p[key]) for key in ("gflops", "bf16_gflops", "read_gbs", "triad_gbs"))) for p in peaks])


def order_of(program, rows):
    """As the networks are listed here, and otherwise as they were measured."""
    networks = list(NAMES)
    if program == "tuning":
        part = lambda row: row["name"].split("/")
        return sorted(rows, key=lambda row: (networks.index(part(row)[0]), row["precision"] != "f32", -row["threads"],
                                             list(TUNINGS).index(part(row)[1])))
    if program not in ("inference", "training", "frozen_step"):
        return rows
    return sorted(rows, key=lambda row: (networks.index(row["name"].split("/")[0]), -row["threads"], -batch_of(row)))


def plot(title, rows):
    """Bars of samples per second as parts of tl's, which is 1: one group for each row, one bar for each side."""
    colours = ("#1d6fb8", "#c9ccd1", "#a3a8b0", "#7d838d", "#5b616b")
    names = ["tl"] + [name for name in dict.fromkeys(p["name"] for row in rows for p in row["peers"] if "median" in p)]
    bar, gap, left, wide = 11, 14, 210, 760
    heights = [bar * (1 + sum("median" in p for p in row["peers"])) + gap for row in rows]
    height = sum(heights) + 76
    most = max(max([1.0] + [p["median"] / row["tl"] for p in row["peers"] if "median" in p]) for row in rows)
    scale = (wide - left - 90) / most
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {height}" width="{wide}" height="{height}" '
           'font-family="system-ui, sans-serif" font-size="11">',
           f'<rect width="{wide}" height="{height}" fill="#ffffff"/>',
           f'<text x="12" y="22" font-size="15" font-weight="600" fill="#1c1f24">{title}</text>']
    x = 12
    for i, name in enumerate(names):
        out.append(f'<rect x="{x}" y="34" width="10" height="10" fill="{colours[i % len(colours)]}"/>')
        out.append(f'<text x="{x + 14}" y="43" fill="#1c1f24">{name}</text>')
        x += 34 + 6.3 * len(name)
    y = 60
    for row, tall in zip(rows, heights):
        label = f"{NAMES[row['name'].split('/')[0]]}, batch {batch_of(row)}"
        out.append(f'<text x="{left - 8}" y="{y + (tall - gap) / 2 + 4}" text-anchor="end" fill="#1c1f24">{label}</text>')
        for side in [{"name": "tl", "median": row["tl"]}] + [p for p in row["peers"] if "median" in p]:
            long = side["median"] / row["tl"] * scale
            out.append(f'<rect x="{left}" y="{y}" width="{long:.1f}" height="{bar - 1}" '
                       f'fill="{colours[names.index(side["name"]) % len(colours)]}"/>')
            out.append(f'<text x="{left + long + 4:.1f}" y="{y + bar - 2}" fill="#4a4f57">{number(side["median"])}</text>')
            y += bar
        y += gap
    return "\n".join(out + ["</svg>\n"])


def data_name(row):
    return DATA.get(row["name"], row["name"])


def way_name(way):
    strategy, network = way.split(" ", 1)
    name, size = network.rsplit("@", 1)
    return f"{strategy}, {(NAMES | FURTHER_NAMES).get(name, name)} at {size}"


def accuracy_of(point):
    spread = f" ± {100 * point['deviation']:.1f}" if point["seeds"] > 1 else ""
    return f"{100 * point['accuracy']:.1f}{spread}"


def curve_table(rows):
    counts = sorted({point["per_class"] for row in rows for point in row["points"]})
    out = []
    for row in rows:
        points = {point["per_class"]: point for point in row["points"]}
        out.append((way_name(row["shape"]), *(accuracy_of(points[n]) if n in points else "" for n in counts)))
    return table(("accuracy, %, by pictures per class", *map(str, counts)), out)


def times_fewer(saving, what):
    one = lambda value: f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
    estimate = saving[what]
    if saving["bound"] == "<=":
        return f"not reached (≤ {one(estimate['median'])})"
    bound = "≥ " if saving["bound"] == ">=" else ""
    return f"{bound}**{one(estimate['median'])}** ({one(estimate['low'])} to {one(estimate['high'])})"


def savings_cells(saving):
    return f"{100 * saving['accuracy']:.1f} %", times_fewer(saving, "pictures"), times_fewer(saving, "seconds")


def savings_table(rows):
    """For the accuracy of each point of a curve from scratch."""
    return table(("", "from pretrained weights", "from random weights", "its pictures per class", "accuracy of both",
                  "times fewer pictures", "times less time"),
                 [(data_name(row), way_name(row["shape"]), way_name(saving["way"]), saving["per_class"], *savings_cells(saving))
                  for row in rows for saving in row["savings"]])


def best_savings_table(rows):
    """Beside each network from scratch, for its highest accuracy that the pretrained weights reach as well."""
    out = []
    for row in rows:
        best = max(point["accuracy"] for point in row["points"])
        for way in dict.fromkeys(saving["way"] for saving in row["savings"]):
            alike = [saving for saving in row["savings"] if saving["way"] == way]
            reached = [saving for saving in alike if saving["bound"] != "<="] or alike
            rival = max(saving["accuracy"] for saving in alike)
            out.append((data_name(row), way_name(row["shape"]), way_name(way), f"{100 * best:.1f} % and {100 * rival:.1f} %",
                        *savings_cells(reached[-1])))
    return table(("", "from pretrained weights", "from random weights", "best of each", "at", "times fewer pictures",
                  "times less time"), out)


def curve_plot(title, rows):
    """Accuracy over pictures per class, whose axis is logarithmic; bars are one deviation over the seeds."""
    colours = ("#1d6fb8", "#2a9d8f", "#7a4fb5", "#c8553d", "#e09f3e", "#7d838d")
    wide, height, left, right, top, bottom = 760, 380, 56, 250, 44, 44
    points = [point for row in rows for point in row["points"]]
    low_x, high_x = (math.log(f(point["per_class"] for point in points)) for f in (min, max))
    low_y = math.floor(10 * min(point["accuracy"] - point["deviation"] for point in points)) / 10
    x_of = lambda n: left + (math.log(n) - low_x) / max(high_x - low_x, 1e-9) * (wide - left - right)
    y_of = lambda a: top + (1 - min(a, 1)) / max(1 - low_y, 1e-9) * (height - top - bottom)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {height}" width="{wide}" height="{height}" '
           'font-family="system-ui, sans-serif" font-size="11">',
           f'<rect width="{wide}" height="{height}" fill="#ffffff"/>',
           f'<text x="12" y="22" font-size="15" font-weight="600" fill="#1c1f24">{html.escape(title)}</text>']
    for tenth in range(round(10 * low_y), 11):
        y = y_of(tenth / 10)
        out.append(f'<line x1="{left}" y1="{y:.1f}" x2="{wide - right}" y2="{y:.1f}" stroke="#e3e5e8"/>')
        out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#4a4f57">{10 * tenth} %</text>')
    last = -math.inf
    for n in sorted({point["per_class"] for point in points}):
        if x_of(n) - last < 26:
            continue
        last = x_of(n)
        out.append(f'<text x="{last:.1f}" y="{height - bottom + 18}" text-anchor="middle" fill="#4a4f57">{n:,}</text>')
    out.append(f'<text x="{(left + wide - right) / 2}" y="{height - 8}" text-anchor="middle" fill="#1c1f24">'
               'training pictures per class</text>')
    for i, row in enumerate(rows):
        colour, dash = colours[i % len(colours)], ' stroke-dasharray="5 4"' if row["shape"].startswith("scratch") else ""
        at = [(x_of(point["per_class"]), point) for point in row["points"]]
        line = " ".join(f"{x:.1f},{y_of(point['accuracy']):.1f}" for x, point in at)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        for x, point in at:
            up, down = (y_of(point["accuracy"] + sign * point["deviation"]) for sign in (1, -1))
            out.append(f'<line x1="{x:.1f}" y1="{up:.1f}" x2="{x:.1f}" y2="{down:.1f}" stroke="{colour}"/>')
            out.append(f'<circle cx="{x:.1f}" cy="{y_of(point["accuracy"]):.1f}" r="3" fill="{colour}"/>')
        y = top + 10 + 18 * i
        out.append(f'<line x1="{wide - right + 16}" y1="{y}" x2="{wide - right + 40}" y2="{y}" stroke="{colour}" '
                   f'stroke-width="2"{dash}/>')
        out.append(f'<text x="{wide - right + 46}" y="{y + 4}" fill="#1c1f24">{html.escape(way_name(row["shape"]))}</text>')
    return "\n".join(out + ["</svg>\n"])


def data_efficiency_page(rows, folder):
    """A section with a plot for each data set."""
    times = sorted(row["time"] for row in rows)
    page = ["", "## Data efficiency", "", DATA_EFFICIENCY, "", f"Measured {times[0]} to {times[-1]}.", ""]
    for name in dict.fromkeys(row["name"] for row in rows):
        some = [row for row in rows if row["name"] == name]
        title = f"{data_name(some[0])[0].upper()}{data_name(some[0])[1:]}"
        file = f"data_efficiency_{re.sub(r'[^a-z0-9]+', '_', name.lower())}.svg"
        (folder / file).write_text(curve_plot(f"{title}: accuracy by training pictures", some))
        page += [f"### {title}: {some[0]['classes']} classes, {some[0]['validation']:,} pictures to validate", "",
                 f"![{title}](measurements/{file})", "", curve_table(some), "", savings_table(some), ""]
    return page[:-1]


def strategies_table(report):
    """Of bench/strategies.py: ways with several seeds first, in the order in which they were run."""
    out = []
    for way in dict.fromkeys(row["way"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["way"] == way]
        accuracies = [100 * row["accuracy"] for row in rows]
        spread = f" ± {statistics.stdev(accuracies):.2f}" if len(rows) > 1 else ""
        out.append((f"`{way}`", f"{rows[0]['trainable_parameters']:,}", len(rows), f"{statistics.mean(accuracies):.2f}{spread}",
                    f"{min(accuracies):.1f} to {max(accuracies):.1f}"))
    out.sort(key=lambda row: -row[2])
    return table(("", "trained parameters", "seeds", "accuracy, %", "least to most"), out)


def strategies_page(report):
    row, name = report["rows"][0], NAMES.get(report["weights"], report["weights"])
    return ["", "## Strategies", "", f"{name} on {DATA.get(report['data'], report['data'])}, {row['train_images']} pictures to train, "
            f"{row['val_images']} to validate (one is {100 / row['val_images']:.2f} %), with the program's own options: accuracy "
            "after the last epoch, mean and deviation over seeds.", "", strategies_table(report)]


def machine_line(machine):
    sets = ", ".join(machine["instruction_sets"])
    amx = "" if machine["amx"] else "; AMX is absent, and with it every row that needs it"
    return (f"{machine['cpu']} (family {machine['family']}, model {machine['model']}; {sets}{amx}), {machine['threads']} "
            f"threads, {machine['memory_gib']:.0f} GiB; tl {machine['tl']}, {machine['compiler']}.")


def measured(rows):
    times = sorted(row["time"] for row in rows)
    rounds = sorted({row["rounds"] for row in rows})
    count = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
    return f"{count} rounds, {times[0]} to {times[-1]}"


def replace_marked(text, content):
    pattern = re.compile(r"(<!-- bench -->\n).*?(<!-- /bench -->)", re.S)
    if not pattern.search(text):
        raise SystemExit("error: README.md has no place <!-- bench -->")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def write(results):
    known = json.loads(results.read_text())
    machine, programs = known["machine"], known["programs"]
    rows = {name: order_of(name, programs.get(name, [])) for name in PROGRAMS}
    for some in rows.values():
        hold_against(known["peaks"], some)

    folder = ROOT / "docs" / "measurements"
    folder.mkdir(parents=True, exist_ok=True)
    page = ["# Measurements", "", "Made by bench/report.py from `bench/results/`; see [bench/README.md](../bench/README.md) for "
            "what the numbers mean.", "", machine_line(machine)]
    for name in PROGRAMS:
        if name == "peak":
            page += ["", f"## {TITLES[name]}", "", peak_table(known["peaks"])]
        elif rows[name]:
            page += ["", f"## {TITLES[name]}", "", measured(rows[name])]
            most = max((row for row in rows[name]), key=lambda row: row["threads"])["threads"]
            drawn = [row for row in rows[name] if row["threads"] == most and row["tl"] and row["precision"] == "f32"]
            if name in ("inference", "training", "frozen_step") and drawn:
                (folder / f"{name}.svg").write_text(plot(f"{TITLES[name]}, samples per second, {most} threads", drawn))
                page += ["", f"![{TITLES[name]}](measurements/{name}.svg)"]
            make = {"tuning": tuning_table, "cached_training": job_table}.get(name, all_peers_table)
            page += ["", make(rows[name])]
    efficiency = programs.get("data_efficiency", [])
    if efficiency:
        page += data_efficiency_page(efficiency, folder)
    strategies = RESULTS / "strategies" / results.name
    if strategies.exists():
        page += strategies_page(json.loads(strategies.read_text()))
    (ROOT / "docs" / "measurements.md").write_text("\n".join(page) + "\n")

    most = max((peak["threads"] for peak in known["peaks"]), default=1)
    parts = [machine_line(machine)]
    for title, make, some in (
            ("Predicting, beside PyTorch (eager and compiled), ONNX Runtime and OpenVINO", network_table, rows["inference"]),
            ("Full training steps, beside PyTorch (eager and compiled)", network_table, rows["training"]),
            ("Steps of a new head on a frozen backbone, which runs anew for each batch", network_table, rows["frozen_step"]),
            ("Epochs of a new head on a frozen backbone: run anew, kept for the first time, and read again", all_peers_table,
             rows["cached_epochs"]),
            ("Fine-tuning on ants and bees from start to end", job_table, rows["finetune"]),
            ("Start-up and pictures", all_peers_table, rows["startup"] + rows["loader"]),
            ("Matrix products", all_peers_table, [row for row in rows["gemm"] if row["threads"] == most])):
        for precision in ("f32", "bf16"):
            alike = [row for row in some if row["precision"] == precision]
            if alike:
                parts += [f"**{title}**, {precision} ({measured(alike)})", make(alike)]
    if efficiency:
        parts += ["**Pictures and time that pretrained weights save**, at the highest accuracy of a network trained from "
                  "scratch that they reach as well (median and 5 to 95 % over seeds; ≥: the fewest pictures tried suffice; "
                  "curves in [docs/measurements.md](docs/measurements.md#data-efficiency))",
                  best_savings_table([row for row in efficiency if row["savings"]])]
    readme = ROOT / "README.md"
    readme.write_text(replace_marked(readme.read_text(), "\n\n".join(parts)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--merge", nargs="*", default=[], metavar="REPORT.json")
    parser.add_argument("--results", type=pathlib.Path, help="of which machine (default: the one merged, or the only one)")
    options = parser.parse_args()
    results = merge(options.merge) or options.results or next(iter(sorted(RESULTS.glob("*.json"))), None)
    if results is None:
        raise SystemExit("error: no results yet: sh bench/run.sh")
    write(results)


if __name__ == "__main__":
    main()
