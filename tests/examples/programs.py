"""Runs the example programs on pictures made here. Usage: programs.py FOLDER_OF_PROGRAMS"""

import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAMS = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path("build/release/examples")


def run(name, *arguments, expect=0):
    done = subprocess.run([str(PROGRAMS / name), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != expect:
        raise AssertionError(f"{name} {arguments} gave {done.returncode}, not {expect}:\n{done.stdout}\n{done.stderr}")
    return done


def last_json(done):
    return json.loads(done.stdout.strip().splitlines()[-1])


def write_picture(path, wide, seed):
    """A bright bar on dark noise, lying or standing."""
    noise = random.Random(seed)
    pixels = bytearray(noise.randrange(60) for _ in range(32 * 32 * 3))
    at = noise.randrange(8, 20)
    for y in range(32):
        for x in range(32):
            if at <= (y if wide else x) < at + 5:
                pixels[(y * 32 + x) * 3:(y * 32 + x) * 3 + 3] = bytes([230, 220, 210])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"P6 32 32 255\n" + bytes(pixels))


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def proto_fields(data):
    """The fields of a message of protocol buffers as (number, value); lengths are left as bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(kind) or varint()
        yield key >> 3, data[at:at + size]
        at += size


def read_events(folder):
    """(tag, step, value) of each scalar in a folder's event files, checked by their checksums; value None for others."""
    out = []
    for path in sorted(folder.glob("*tfevents*")):
        data = path.read_bytes()
        at = 0
        while at < len(data):
            length, length_crc = struct.unpack_from("<QI", data, at)
            record = data[at + 12:at + 12 + length]
            (record_crc,) = struct.unpack_from("<I", data, at + 12 + length)
            for part, crc in ((data[at:at + 8], length_crc), (record, record_crc)):
                plain = crc32c(part)
                assert (((plain >> 15) | (plain << 17)) + 0xa282ead8) & 0xffffffff == crc
            at += 16 + length
            event = dict(proto_fields(record))
            if 5 in event:
                value = dict(proto_fields(dict(proto_fields(event[5]))[1]))
                out.append((value[1].decode(), event[2], struct.unpack("<f", value[2])[0] if 2 in value else None))
    return out


class Programs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        root = cls.root = pathlib.Path(cls.folder.name)
        for part, count in (("train", 40), ("val", 12)):
            for i in range(count):
                for wide, name in ((True, "lying"), (False, "standing")):
                    write_picture(root / "bars" / part / name / f"{i:03}.ppm", wide, 1000 * i + 2 * (part == "val") + wide)
        (root / "bars" / "train" / "lying" / "notes.txt").write_text("no picture")
        (root / "bars" / "train" / "lying" / "broken.ppm").write_bytes(b"P6 32 32 255\nshort")
        cls.model = root / "bars.safetensors"
        cls.training = run("finetune_images", root / "bars", "--arch", "lenet", "--strategy", "scratch", "--epochs", 20, "--lr", 3e-3,
                           "--no-augment", "--save", cls.model, "--report", root / "report", "--tensorboard", root / "events", "--seed", 3)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_lecture_one_checks_its_gradient(self):
        self.assertLess(last_json(run("01_tensors_and_gradients"))["gradient_error"], 1e-8)

    def test_lecture_two_learns_the_spirals(self):
        self.assertGreater(last_json(run("02_train_from_scratch", "--quiet", "--device", "cpu"))["test_accuracy"], 0.95)

    def test_finetune_images_reports_what_it_did(self):
        result = last_json(self.training)
        for key in ("train_images", "val_images", "val_accuracy", "best_val_accuracy", "epochs", "seconds", "trainable_parameters", "peak_bytes"):
            self.assertIn(key, result)
        self.assertEqual((result["train_images"], result["val_images"]), (81, 24))
        self.assertGreaterEqual(result["val_accuracy"], 0.9)
        page = (self.root / "report" / "report.html").read_text()
        self.assertIn("standing", page)
        self.assertIn("</html>", page)

    def test_event_files_hold_the_curves(self):
        events = read_events(self.root / "events")
        log = json.loads((self.root / "report" / "report.json").read_text())["runs"][0]["seeds"][0]["epochs"]
        for tag, key in (("loss/train", "train_loss"), ("accuracy/val", "val_accuracy"), ("run/seconds", "seconds")):
            curve = {step: value for name, step, value in events if name == tag}
            self.assertEqual(list(curve), list(range(1, 21)))
            for epoch in log:
                self.assertAlmostEqual(curve[epoch["epoch"]], epoch[key], delta=1e-6 * max(1, abs(epoch[key])))
        tags = {name for name, _, _ in events}
        self.assertIn("run", tags)
        self.assertIn("weights/fc3.weight", tags)

    def test_tensorboard_reads_the_event_files(self):
        try:
            from tensorboard.backend.event_processing import event_accumulator
        except ImportError:
            self.skipTest("there is no package tensorboard")
        loaded = event_accumulator.EventAccumulator(str(self.root / "events"))
        loaded.Reload()
        tags = loaded.Tags()
        self.assertTrue({"loss/train", "loss/val", "accuracy/val"} <= set(tags["scalars"]), tags)
        self.assertEqual([event.step for event in loaded.Scalars("loss/train")], list(range(1, 21)))
        self.assertIn("weights/fc3.weight", tags["histograms"])
        last = loaded.Histograms("weights/fc3.weight")[-1].histogram_value
        self.assertEqual(sum(last.bucket), 84 * 2)
        self.assertTrue(any("run" in tag for tag in tags["tensors"]), tags)

    def test_broken_and_foreign_files_are_reported_and_left_out(self):
        self.assertIn("broken.ppm", self.training.stderr)
        self.assertIn("skipped 1 file", self.training.stderr)

    def test_a_saved_model_predicts_the_same_in_a_new_process(self):
        pictures = sorted((self.root / "bars" / "val").glob("*/*.ppm"))
        first, second = (run("predict_images", self.model, *pictures, "--logits") for _ in range(2))
        lines = [json.loads(line) for line in first.stdout.strip().splitlines()]
        self.assertEqual(lines[-1]["images"], 24)
        self.assertEqual(lines[:-1], [json.loads(line) for line in second.stdout.strip().splitlines()][:-1])
        hits = sum(line["class"] == pathlib.Path(line["file"]).parent.name for line in lines[:-1])
        self.assertAlmostEqual(hits / 24, last_json(self.training)["val_accuracy"])
        self.assertEqual(len(lines[0]["logits"]), 2)

    def test_one_broken_picture_does_not_stop_the_others(self):
        good = next((self.root / "bars" / "val" / "lying").glob("*.ppm"))
        done = run("predict_images", self.model, self.root / "bars" / "train" / "lying" / "broken.ppm", good, self.root / "none.png", expect=1)
        lines = [json.loads(line) for line in done.stdout.strip().splitlines()]
        self.assertIn("error", lines[0])
        self.assertEqual(lines[1]["class"], "lying")
        self.assertIn("error", lines[2])
        self.assertEqual((lines[3]["images"], lines[3]["failed"]), (3, 2))

    def test_recommend_images_ranks_weights_and_says_why(self):
        other = self.root / "other.safetensors"
        run("finetune_images", self.root / "bars", "--arch", "lenet", "--strategy", "scratch", "--epochs", 1, "--lr", 1e-6,
            "--quiet", "--save", other, "--seed", 9)
        done = run("recommend_images", self.root / "bars", "--weights", other, self.model, "--quiet")
        result = last_json(done)
        self.assertEqual((result["train_images"], result["weights"]), (81, str(self.model)))
        self.assertEqual([c["weights"] for c in result["candidates"]], [str(self.model), str(other)])
        self.assertEqual(len(result["choices"]), 4)
        self.assertEqual(result["warning"], "")
        self.assertIn("LogME", result["why"])
        self.assertIn(result["why"], done.stdout)  # the numbered list says the same
        one_class = self.root / "one_class"
        for i in range(6):
            write_picture(one_class / "lying" / f"{i}.ppm", True, i)
        self.assertIn("at least two", run("recommend_images", one_class, "--weights", self.model, expect=2).stderr)
        self.assertIn("leave them out", run("recommend_images", self.root / "bars", "--weights", os.devnull, expect=1).stderr)

    def test_inspect_weights_counts(self):
        result = last_json(run("inspect_weights", self.model))
        self.assertEqual((result["arch"], result["tensors"]), ("lenet", 10))
        self.assertEqual(result["parameters"], 6 * 25 + 6 + 16 * 150 + 16 + 400 * 120 + 120 + 120 * 84 + 84 + 84 * 2 + 2)

    def test_a_run_goes_on_from_its_checkpoint(self):
        arguments = [self.root / "bars", "--arch", "lenet", "--strategy", "scratch", "--seed", 1, "--no-augment", "--quiet"]
        whole, half = self.root / "whole.safetensors", self.root / "half.safetensors"
        run("finetune_images", *arguments, "--epochs", 2, "--save", whole)
        checkpoint = self.root / "checkpoint.safetensors"
        run("finetune_images", *arguments, "--epochs", 2, "--checkpoint", checkpoint, "--save", half)
        self.assertEqual(whole.read_bytes(), half.read_bytes())
        run("finetune_images", *arguments, "--epochs", 2, "--checkpoint", checkpoint, "--save", half)  # nothing is left to do
        self.assertEqual(whole.read_bytes(), half.read_bytes())

    def test_threads_do_not_change_the_result(self):
        arguments = [self.root / "bars", "--arch", "lenet", "--strategy", "scratch", "--epochs", 2, "--quiet"]
        one, two = self.root / "one.safetensors", self.root / "two.safetensors"
        run("finetune_images", *arguments, "--threads", 1, "--save", one)
        run("finetune_images", *arguments, "--threads", 2, "--save", two)
        self.assertEqual(one.read_bytes(), two.read_bytes())

    def test_errors_are_one_line_and_have_their_exit_codes(self):
        for expect, arguments in ((1, ["finetune_images", self.root / "none", "--weights", self.model]),
                                  (2, ["finetune_images"]),
                                  (2, ["finetune_images", self.root / "bars", "--strategy", "magic", "--weights", self.model]),
                                  (2, ["finetune_images", self.root / "bars"]),
                                  (1, ["predict_images", self.root / "bars" / "train" / "lying" / "notes.txt", "x.png"]),
                                  (2, ["predict_images", "--nonsense"]),
                                  (1, ["inspect_weights", os.devnull])):
            done = run(arguments[0], *arguments[1:], expect=expect)
            self.assertTrue(done.stderr.startswith("error: "), done.stderr)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)

    def test_every_program_has_help(self):
        for name in ("finetune_images", "predict_images", "inspect_weights", "compare_strategies", "recommend_images", "02_train_from_scratch",
                     "03_load_pretrained", "04_feature_extraction", "05_finetune"):
            self.assertIn("--threads", run(name, "--help").stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
