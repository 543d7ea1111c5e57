"""Writes calibration.json: calibration errors, temperatures and ROC points by their definitions.

Usage: python3 make_calibration.py (needs numpy). The schema is in README.md. Everything is in double precision.
"""

import json
import pathlib

import numpy as np

rng = np.random.default_rng(1717)


def log_softmax(z):
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def reliability(logits, labels, bins, temperature):
    known = labels >= 0
    logits, labels = logits[known], labels[known]
    logs = log_softmax(logits / temperature)
    p = np.exp(logs)
    confidence, right = p.max(1), p.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)
    counts, gaps = [], []
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        counts.append(int(inside.sum()))
        gaps.append(abs(right[inside].mean() - confidence[inside].mean()) if inside.any() else 0.0)
    return {"bins": bins, "temperature": temperature, "counts": counts,
            "expected_error": float(np.dot(counts, gaps) / len(labels)), "largest_error": float(max(gaps)),
            "negative_log": float(-logs[np.arange(len(labels)), labels].mean()),
            "brier": float(((p - np.eye(p.shape[1])[labels]) ** 2).sum(1).mean())}


def fit_temperature(logits, labels):
    """Newton's method on b = 1 / T, of which the loss is a convex function."""
    known = labels >= 0
    z, y = logits[known], labels[known]
    b = 1.0
    for _ in range(200):
        p = np.exp(log_softmax(b * z))
        mean = (p * z).sum(1)
        slope = (mean - z[np.arange(len(y)), y]).mean()
        curvature = ((p * z**2).sum(1) - mean**2).mean()
        step = slope / curvature
        while b - step <= 0:
            step /= 2
        b -= step
    return float(1 / b)


def case(name, n, classes, scale, signal, unlabelled=0):
    labels = rng.integers(0, classes, n)
    logits = np.round(scale * (signal * np.eye(classes)[labels] + rng.normal(size=(n, classes))), 4)
    labels[:unlabelled] = -100
    temperature = fit_temperature(logits, labels)
    return {"case": name, "logits": logits.tolist(), "labels": labels.tolist(), "temperature": temperature,
            "reliability": [reliability(logits, labels, bins, t) for bins, t in ((15, 1.0), (10, temperature), (1, 0.5))]}


def roc(n, digits):
    labels = rng.integers(0, 2, n)
    scores = np.round(labels * 0.8 + rng.normal(size=n), digits)
    points = [{"threshold": None, "sensitivity": 0.0, "specificity": 1.0}]
    for threshold in sorted(set(scores), reverse=True):
        called = scores >= threshold
        points.append({"threshold": float(threshold), "sensitivity": float(called[labels == 1].mean()),
                       "specificity": float(1 - called[labels == 0].mean())})
    pairs = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    return {"scores": scores.tolist(), "labels": labels.tolist(), "points": points,
            "auc": float((pairs > 0).mean() + (pairs == 0).mean() / 2)}


def main():
    cases = [case("bold", 60, 3, 4.0, 1.0), case("timid", 50, 2, 0.3, 2.0), case("some without a label", 40, 5, 2.0, 1.5, 7)]
    data = {"schema": 1, "made_with": f"numpy {np.__version__}", "cases": cases, "roc": [roc(40, 6), roc(30, 1)]}
    body = json.dumps(data, separators=(",", ":")).replace('{"case"', '\n{"case"').replace('{"scores"', '\n{"scores"')
    (pathlib.Path(__file__).resolve().parent / "calibration.json").write_text(body + "\n")
    for c in cases:
        print(c["case"], c["temperature"], [r["expected_error"] for r in c["reliability"]])


if __name__ == "__main__":
    main()
