"""Runs every bench for a moment, without peers from Python, and the report on what they wrote. Usage: programs.py FOLDER"""

import json
import math
import pathlib
import random
import struct
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


def write_pictures(folder, each):
    """Noise, dark in one class and bright in the other."""
    for part in ("train", "val"):
        for name, least in (("dark", 0), ("bright", 128)):
            (folder / part / name).mkdir(parents=True)
            for i in range(each):
                pixels = random.Random(f"{part} {i}").choices(range(least, least + 128), k=3 * 30 * 30)
                (folder / part / name / f"{i}.ppm").write_bytes(b"P6 30 30 255\n" + bytes(pixels))


def write_lenet(path):
    """A weight file of random numbers."""
    shapes = {"conv1.weight": [6, 1, 5, 5], "conv1.bias": [6], "conv2.weight": [16, 6, 5, 5], "conv2.bias": [16],
              "fc1.weight": [120, 400], "fc1.bias": [120], "fc2.weight": [84, 120], "fc2.bias": [84],
              "fc3.weight": [10, 84], "fc3.bias": [10]}
    header, data = {"__metadata__": {"arch": "lenet"}}, b""
    for name, shape in shapes.items():
        count = math.prod(shape)
        values = struct.pack(f"<{count}f", *(random.Random(i).uniform(-0.2, 0.2) for i in range(count)))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class Benches(unittest.TestCase):
    def check(self, name, filter_text, *more, program=None):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "report.json"
            done = run(f"bench_{name}", *MOMENT, "--filter", filter_text, "--json", file, *more)
            report = json.loads(file.read_text())
        self.assertEqual(report, json.loads(done.stdout.strip().splitlines()[-1]))
        self.assertEqual(report["program"], program or name)
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

    def test_ways_of_tuning(self):
        rows = self.check("training", "resnet20", "--tuning", "full,recompute,lora,bottleneck,norms,head", program="tuning")["rows"]
        self.assertEqual([row["name"] for row in rows], [f"resnet20/{way}" for way in ("full", "recompute", "bottleneck", "norms", "head")])
        trained = [row["own"]["trained_parameters"] for row in rows]
        self.assertEqual(trained, sorted(trained, reverse=True))
        self.assertEqual(trained[-1], 2 * 64 + 2)
        peaks = [row["own"]["peak_bytes"] - row["own"]["base_bytes"] for row in rows]
        self.assertLess(peaks[1], 0.8 * peaks[0])

    def test_the_encoder_has_adapters_on_its_projections(self):
        rows = self.check("training", "encoder", "--tuning", "lora_attention,bottleneck,head", "--batch", 1, program="tuning")["rows"]
        layers, width, head = 6, 384, 2 * 384 + 2
        self.assertEqual([row["own"]["trained_parameters"] for row in rows],
                         [layers * 4 * 2 * 8 * width + head, layers * 2 * (2 * 16 * width + 16 + width) + head, head])

    def test_a_peer_that_trains_another_number_of_parameters_takes_no_part(self):
        with tempfile.TemporaryDirectory() as folder:
            python = pathlib.Path(folder) / "python"
            hello = json.dumps({"peer": "torch 0 eager", "base_bytes": 1, "trained_parameters": 7})
            python.write_text(f"#!/bin/sh\necho '{hello}'\ncat\n")
            python.chmod(0o755)
            done = run("bench_training", *MOMENT[:-1], "eager", "--python", python, "--filter", "resnet20", "--tuning", "head")
        row = json.loads(done.stdout.strip().splitlines()[-1])["rows"][0]
        self.assertEqual(row["peers"], [{"name": "torch 0 eager", "error": "trains 7 parameters, tl 130"}])
        self.assertGreater(row["tl"], 0)

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

    def test_trainings_on_what_is_kept_reach_the_same_accuracy(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            write_pictures(folder / "noise", 6)
            write_lenet(folder / "lenet.safetensors")
            rows = self.check("cached_epochs", "seed", "--trainings", folder / "noise", "--weights", folder / "lenet.safetensors",
                              "--epochs", 2, "--seeds", 2, program="cached_training")["rows"]
        self.assertEqual([row["shape"] for row in rows], [f"2 epochs, {more}seed {seed}" for more in ("", "4 augmentations, ")
                                                          for seed in (0, 1)])
        for row in rows:
            self.assertEqual(row["own"]["accuracy"], row["peers"][0]["accuracy"])

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
        self.assertEqual(row["peers"][0]["name"], "torch eager")
        self.assertIn("did not start", row["peers"][0]["error"])

    def test_learning_curves_are_made_once(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            write_pictures(folder / "noise", 6)
            write_lenet(folder / "lenet.safetensors")
            arguments = [folder / "noise", "--weights", folder / "lenet.safetensors", "--transfer", "features,finetune",
                         "--scratch", "lenet", "--seeds", 2, "--epochs", 2, "--least-steps", 1, "--threads", 1, "--quiet",
                         "--runs", folder / "runs.jsonl", "--json", folder / "report.json", "--tsv", folder / "curves.tsv"]
            run("bench_data_efficiency", *arguments, "--counts", "2,0")
            runs = (folder / "runs.jsonl").read_text()
            (folder / "runs.jsonl").write_text(runs + '{"data": "noise", "wa')  # as if it had been cut
            self.assertEqual(len(runs.splitlines()), 3 * 2 * 2)
            again = run("bench_data_efficiency", *arguments, "--counts", "2,100")  # more than there are: all
            self.assertEqual((folder / "runs.jsonl").read_text(), runs + '{"data": "noise", "wa')
            report = json.loads((folder / "report.json").read_text())
            table = [line.split("\t") for line in (folder / "curves.tsv").read_text().splitlines()]
        self.assertEqual(report, json.loads(again.stdout.strip().splitlines()[-1]))
        self.assertEqual([row["shape"] for row in report["rows"]],
                         ["features lenet@28", "finetune lenet@28", "scratch lenet@28"])
        for row in report["rows"]:
            self.assertEqual([(point["pictures"], point["seeds"]) for point in row["points"]], [(4, 2), (12, 2)])
            self.assertEqual(len(row["savings"]), 0 if row["shape"].startswith("scratch") else 2)
        self.assertEqual(report["rows"][0]["points"][1]["accuracy"], 1)
        self.assertEqual([len(row) for row in table], [8] * 7)

    def test_bad_usage(self):
        done = run("bench_data_efficiency", "/nonexistent", "--runs", "/dev/null", expect=1)
        self.assertIn("/nonexistent", done.stderr)
        done = run("bench_inference", "--rounds", "0", expect=2)
        self.assertTrue(done.stderr.startswith("error: "), done.stderr)

    def test_every_bench_has_help(self):
        for program in sorted(PROGRAMS.glob("bench_*")):
            self.assertIn("--json", run(program.name, "--help").stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
