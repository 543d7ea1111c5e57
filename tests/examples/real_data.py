"""Runs the examples on real pictures from TL_SHARED and real weights: an accuracy floor for each, in moments.

Usage: real_data.py FOLDER_OF_PROGRAMS. Pictures are small and few, so that floors are a little below what one run gave;
the accuracies in the sources' comments are those of whole data sets.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAMS = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path("build/release/examples")
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DATA = pathlib.Path(os.environ.get("TL_SHARED") or REPOSITORY.parent / "shared") / "data"
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")  # Debian: dataset-fashion-mnist
SOURCE = DATA / "imagenet_mobilenetv2_bn" / "mobilenetv2_bn_features.safetensors"


class RealData(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.root = pathlib.Path(cls.folder.name)
        cls.weights = cls.root / "mobilenet_v2.safetensors"
        subprocess.run([sys.executable, "-B", REPOSITORY / "weights" / "convert.py", SOURCE, cls.weights],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_on(self, name, pictures, *arguments):
        """What a program's last line says; skips the test when there are no such pictures."""
        if not pictures.is_dir():
            self.skipTest(f"{pictures} is absent")
        command = [PROGRAMS / name, pictures, "--weights", self.weights, "--quiet", *arguments]
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout.strip().splitlines()[-1])

    def test_ants_and_bees(self):
        result = self.run_on("finetune_images", DATA / "hymenoptera_data", "--strategy", "features", "--size", 96)
        self.assertEqual((result["train_images"], result["val_images"]), (244, 153))
        self.assertGreaterEqual(result["val_accuracy"], 0.80)

    def test_product_defects_on_magnetic_tiles(self):
        result = self.run_on("product_defects", DATA / "magnetic_tile_defect", "--extensions", "jpg", "--size", 160,
                             "--per-class", 30, "--layer", "bn1", "--report", self.root / "tiles")
        self.assertEqual((result["val_images"], result["masks"]), (118, 77))
        self.assertGreaterEqual(result["balanced_accuracy"], 0.70)
        self.assertGreaterEqual(result["pixel_auc"], 0.60)
        self.assertGreater(result["pointing"], 1.4 * result["pointing_by_chance"])

    def test_medical_images_on_chest_radiographs(self):
        result = self.run_on("medical_images", DATA / "pneumonia_mnist", "--size", 64, "--per-class", 100)
        self.assertEqual((result["train_images"], result["test_images"], result["on_both_sides"]), (200, 624, 8))
        self.assertGreaterEqual(result["auc"], 0.85)
        self.assertGreaterEqual(result["sensitivity"] + result["specificity"], 1.5)
        self.assertLess(result["calibration_error_after"], result["calibration_error"])

    def test_medical_images_on_blood_cells(self):
        result = self.run_on("medical_images", DATA / "blood_cells_bccd", "--size", 64, "--per-class", 60)
        self.assertEqual(set(result["recall"]), {"Platelets", "RBC", "WBC"})
        self.assertGreaterEqual(min(result["recall"].values()), 0.93)

    def test_fashion(self):
        result = self.run_on("fashion", FASHION, "--size", 64, "--per-class", 30, "--val-limit", 300)
        self.assertGreaterEqual(result["val_accuracy"], 0.68)
        self.assertGreaterEqual(result["precision"], 0.50)
        self.assertGreater(result["precision_by_class"]["trousers"], result["precision_by_class"]["shirt"])

    def test_multitask_images_on_pacs(self):
        result = self.run_on("multitask_images", DATA / "pacs_subset", "--size", 48, "--epochs", 20, "--strategy", "features",
                             "--val-fraction", 0.7)
        runs = result["runs"]
        for task, floor in (("style", 0.78), ("object", 0.50)):
            alone, both = runs[f"{task} alone"][f"{task} accuracy"], runs["both"][f"{task} accuracy"]
            self.assertGreaterEqual(both, floor)
            self.assertGreaterEqual(both, alone - 0.03)


if __name__ == "__main__":
    if not SOURCE.is_file():
        print(f"skipped: {SOURCE} is absent (TL_SHARED says where to look)")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=1)
