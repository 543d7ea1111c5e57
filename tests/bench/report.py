"""bench/report.py on made-up reports, in a copy of what it reads and writes. Usage: report.py SOURCE_FOLDER"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

SOURCE = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(".")
MACHINE = {"cpu": "Some CPU", "family": "1", "model": "2", "threads": 2, "memory_gib": 8, "instruction_sets": ["avx2"],
           "amx": False, "isa": "avx2", "tl": "0", "compiler": "g++"}


def report(program, name, shape, tl, **more):
    own = {"name": "tl 0", "median": tl, "min": tl - 1, "max": tl + 1, "peak_bytes": 5e8, "base_bytes": 1e8}
    peers = [{"name": "torch 2 eager", "median": 50.0, "min": 49.0, "max": 51.0, "peak_bytes": 1e9, "base_bytes": 6e8},
             {"name": "openvino 1", "error": "not installed"}]
    row = {"name": name, "shape": shape, "threads": 2, "precision": "f32", "unit": "samples/s", "rounds": 7, "tl": tl, "own": own,
           "peers": peers, "peer": 50.0, "peer_name": "torch 2 eager", "ratio": tl / 50, "ratio_min": tl / 50 - 0.1,
           "ratio_max": tl / 50 + 0.1, "limit": "GFLOP/s", "percent_of_peak": 60.0, "peak": 200.0, "time": "2026-01-01T00:00:00Z"}
    return {"program": program, "machine": MACHINE, "peaks": [], "rows": [{**row, **more}]}


class Report(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        (self.root / "bench").mkdir()
        for file in ("README.md", "bench/report.py"):
            shutil.copy(SOURCE / file, self.root / file)

    def write(self, *reports):
        files = []
        for i, one in enumerate(reports):
            files.append(self.root / f"{i}.json")
            files[-1].write_text(json.dumps(one))
        subprocess.run([sys.executable, self.root / "bench/report.py", "--merge", *files], check=True)
        return (self.root / "README.md").read_text()

    def test_tables_plots_and_newer_rows(self):
        inference = ("inference", "resnet18/inference", "[16, 224, 224, 3]")
        readme = self.write(report(*inference, 60.0), report("training", "encoder/training", "[1, 128]", 70.0),
                            report("gemm", "sgemm", "256x256x256", 80.0))
        self.assertIn("| ResNet-18 | 16 | 2 | 60 | 50 (torch eager) | **1.20** (1.10 to 1.30) | 60 % | 500 | 1,000 |", readme)
        self.assertIn("AMX is absent", readme)
        again = self.write(report(*inference, 90.0))
        self.assertIn("| ResNet-18 | 16 | 2 | 90 |", again)
        self.assertNotIn("| ResNet-18 | 16 | 2 | 60 |", again)
        self.assertIn("text encoder", again)
        page = (self.root / "docs/measurements.md").read_text()
        self.assertIn("not installed", page)
        xml.dom.minidom.parse(str(self.root / "docs/measurements/inference.svg"))

    def test_a_peer_that_failed_has_a_dash_in_its_own_column_and_a_reason_below(self):
        inference = ("inference", "resnet18/inference", "[16, 224, 224, 3]")
        failed = [{"name": "torch eager", "error": "no bf16"}, {"name": "openvino", "error": "not installed"}]
        self.write(report(*inference, 60.0), report(*inference, 70.0, precision="bf16", peers=failed, peer=None, peer_name=None,
                                                    ratio=None))
        page = (self.root / "docs/measurements.md").read_text()
        self.assertIn("| tl | torch 2 eager | openvino 1 | ratio", page)
        self.assertIn("| 60 (59 to 61) | 50 | – (1) | **1.20**", page)
        self.assertIn("| 70 (69 to 71) | – (2) | – (1) |  |", page)
        self.assertIn("(1) not installed<br>\n(2) no bf16\n", page)

    def test_ways_of_tuning_stand_in_one_table(self):
        def row(way, parameters, time):
            one = report("tuning", f"encoder/{way}", "[16, 128]", time, unit="ms")
            one["rows"][0]["own"]["trained_parameters"] = parameters
            return one

        self.write(row("head", 770, 20.0), row("lora_attention", 148226, 60.0), row("recompute", 22565378, 130.0), row("full", 22565378, 100.0))
        page = (self.root / "docs/measurements.md").read_text()
        lines = [line for line in page.splitlines() if line.startswith("| text encoder, batch 16")]
        self.assertEqual([line.split(" | ")[1:5] for line in lines], [
            ["everything", "22,565,378", "2", "100 (99 to 101)"],
            ["everything, blocks run again in backward", "22,565,378", "2", "130 (129 to 131)"],
            ["head and LoRA of rank 8 on attention", "148,226", "2", "60 (59 to 61)"],
            ["the head alone", "770", "2", "20 (19 to 21)"]])
        self.assertIn("| 500 (+400) | 1,000 (+400) |", lines[0])

    def test_a_whole_job_shows_accuracies(self):
        job = report("finetune", "efficientnet_lite0/finetune", "10 epochs", 60.0)
        job["rows"][0]["own"]["accuracy"] = 0.954
        self.assertIn("| EfficientNet-Lite0, 10 epochs | 2 | 60 s | 50 s |", self.write(job))

    def test_learning_curves(self):
        points = [{"per_class": n, "pictures": 2 * n, "seeds": 3, "accuracy": 1 - 0.4 / n, "deviation": 0.01, "seconds": n}
                  for n in (1, 2, 100)]
        half, full = ({"way": way, "per_class": 100, "accuracy": accuracy, "bound": bound,
                       "pictures": {"median": 12.3, "low": 4.0, "high": 2000.4}, "seconds": {"median": 1.5, "low": 1, "high": 2}}
                      for way, accuracy, bound in (("scratch lenet@28", 0.8, ""), ("scratch cifar_resnet20@48", 0.9, ">=")))
        row = {"threads": 1, "precision": "f32", "classes": 2, "validation": 153, "time": "2026-01-01T00:00:00Z", "points": points}
        readme = self.write({"program": "data_efficiency", "machine": MACHINE, "peaks": [], "rows": [
            {**row, "name": "hymenoptera_data", "shape": "features efficientnet_lite0@224", "savings": [half, full]},
            {**row, "name": "hymenoptera_data", "shape": "scratch lenet@28", "savings": []}]})
        best = ("| ants and bees | features, EfficientNet-Lite0 at 224 | scratch, CIFAR ResNet-20 at 48 | 99.6 % and 90.0 % | 90.0 % | "
                "≥ **12** (4.0 to 2,000) | ≥ **1.5** (1.0 to 2.0) |")
        self.assertIn(best, readme)
        self.assertIn("| scratch, LeNet at 28 | 99.6 % and 80.0 % | 80.0 % | **12** (4.0 to 2,000) |", readme)
        page = (self.root / "docs/measurements.md").read_text()
        self.assertIn("| scratch, LeNet at 28 | 60.0 ± 1.0 | 80.0 ± 1.0 | 99.6 ± 1.0 |", page)
        self.assertIn("**12** (4.0 to 2,000)", page)
        xml.dom.minidom.parse(str(self.root / "docs/measurements/data_efficiency_hymenoptera_data.svg"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
