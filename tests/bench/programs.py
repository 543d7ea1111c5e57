"""Runs every bench for a moment, without peers from Python, and the report on what they wrote. Usage: programs.py FOLDER"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAMS = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path("build/release/bench")
MOMENT = ("--rounds", "1", "--seconds", "0.001", "--threads", "1", "--peers", "none")
KEYS = ("name", "shape", "threads", "precision", "unit", "tl", "peer", "ratio", "percent_of_peak")


def run(name, *arguments, expect=0):
    done = subprocess.run([str(PROGRAMS / name), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != expect:
        raise AssertionError(f"{name} {arguments} gave {done.returncode}, not {expect}:\n{done.stdout}\n{done.stderr}")
    return done


class Benches(unittest.TestCase):
    def check(self, name, filter_text, *more):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "report.json"
            done = run(f"bench_{name}", *MOMENT, "--filter", filter_text, "--json", file, *more)
            report = json.loads(file.read_text())
        self.assertEqual(report, json.loads(done.stdout.strip().splitlines()[-1]))
        self.assertEqual(report["program"], name)
        self.assertIn("amx", report["machine"])
        self.assertTrue(report["rows"])
        for row in report["rows"]:
            self.assertEqual([key for key in KEYS if key not in row], [])
            self.assertGreater(row["tl"], 0)
        return report

    def test_networks(self):
        for name in ("inference", "training", "frozen_step"):
            report = self.check(name, "resnet20")
            self.assertGreater(report["rows"][0]["percent_of_peak"], 0)
            self.assertGreater(report["rows"][0]["own"]["peak_bytes"], report["rows"][0]["own"]["base_bytes"])
        self.check("training", "encoder/training [1,")

    def test_kernels(self):
        self.assertEqual([row["unit"] for row in self.check("gemm", "512x49x4608")["rows"]], ["GFLOP/s"] * 2)
        self.check("conv", "conv3x3")
        self.check("conv", "depthwise3x3/backward_weight 14x14")
        self.check("layers", "[2048")
        self.check("layers", "/step")

    def test_files(self):
        rows = self.check("startup", "mobilenet_v2")["rows"]
        self.assertEqual([row["name"] for row in rows], ["mobilenet_v2/first_prediction", "mobilenet_v2/load"])
        self.check("loader", "decode")
        self.check("loader", "epoch")

    def test_cached_epochs(self):
        rows = self.check("cached_epochs", "frozen_epoch", "--count", 8, "--size", 64)["rows"]
        times = {row["name"].split("/")[-1]: row["tl"] for row in rows}
        self.assertEqual(list(times), ["uncached", "fill", "cached", "fill_disk", "cached_disk"])
        self.assertLess(times["cached"], times["fill"])
        self.assertLess(times["cached_disk"], times["fill_disk"])

    def test_list_names_the_cases_without_measuring(self):
        done = run("bench_conv", "--list", "--filter", "depthwise5x5", "--threads", "2")
        self.assertEqual(done.stdout.splitlines()[0], "depthwise5x5/forward 28x28 240->240 T2")
        self.assertEqual(json.loads(done.stdout.splitlines()[-1])["rows"], [])

    def test_peak_measures_the_machine(self):
        report = json.loads(run("bench_peak", "--threads", "1").stdout.strip().splitlines()[-1])
        self.assertGreater(report["peaks"][0]["gflops"], 1)
        self.assertGreater(report["peaks"][0]["triad_gbs"], 0.1)

    def test_a_peer_that_is_not_there_is_told_in_its_row(self):
        done = run("bench_inference", *MOMENT[:-1], "eager", "--python", "/nonexistent", "--filter", "resnet20")
        row = json.loads(done.stdout.strip().splitlines()[-1])["rows"][0]
        self.assertIsNone(row["peer"])
        self.assertIn("did not start", row["peers"][0]["error"])

    def test_bad_usage(self):
        done = run("bench_inference", "--rounds", "0", expect=2)
        self.assertTrue(done.stderr.startswith("error: "), done.stderr)

    def test_every_bench_has_help(self):
        for program in sorted(PROGRAMS.glob("bench_*")):
            self.assertIn("--json", run(program.name, "--help").stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
