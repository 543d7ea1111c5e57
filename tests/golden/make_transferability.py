"""Writes transferability.json: LogME, H-score, TransRate, LEEP and NCE from their published formulas.

Usage: python3 make_transferability.py (needs numpy). The schema is in README.md. Everything is in double precision and
as the papers write it: matrices of all features are built, inverted and decomposed, whatever that costs.
"""

import json
import pathlib

import numpy as np

rng = np.random.default_rng(20221)


def one_hot(labels, classes):
    return (labels[:, None] == np.arange(classes)).astype(float)


def evidence(f, y, alpha, beta):
    n, d = f.shape
    a = alpha * np.eye(d) + beta * f.T @ f
    m = beta * np.linalg.solve(a, f.T @ y)
    value = (n / 2 * np.log(beta) + d / 2 * np.log(alpha) - n / 2 * np.log(2 * np.pi)
             - beta / 2 * np.sum((f @ m - y) ** 2) - alpha / 2 * m @ m - np.linalg.slogdet(a)[1] / 2)
    return value, m


def log_evidence(f, y):
    """The fixed point of You et al., or the limit that it runs away to: no weights, or no noise."""
    n = len(y)
    s = np.clip(np.linalg.eigvalsh(f.T @ f), 0, None)
    alpha = beta = 1.0
    for _ in range(20000):
        m = evidence(f, y, alpha, beta)[1]
        gamma = np.sum(beta * s / (alpha + beta * s))
        new_alpha = gamma / (m @ m)
        new_beta = (n - gamma) / np.sum((f @ m - y) ** 2)
        if new_alpha / new_beta > 1e9 * s.max():
            return (np.log(n / (y @ y)) - np.log(2 * np.pi) - 1) / 2  # y ~ N(0, 1 / beta), beta = n / |y|^2
        if new_alpha / new_beta < 1e-9 * s.max():
            return log_evidence_without_noise(f, y)
        done = abs(new_alpha / alpha - 1) < 1e-14 and abs(new_beta / beta - 1) < 1e-14
        alpha, beta = new_alpha, new_beta
        if done:
            break
    return evidence(f, y, alpha, beta)[0] / n


def log_evidence_without_noise(f, y):
    """Where F F^T has full rank the evidence also has a finite limit for beta -> infinity: y ~ N(0, F F^T / alpha)."""
    n = len(y)
    k = f @ f.T
    alpha = n / (y @ np.linalg.solve(k, y))
    return (n / 2 * np.log(alpha) - n / 2 * np.log(2 * np.pi) - np.linalg.slogdet(k)[1] / 2 - n / 2) / n


def log_me(f, labels):
    return float(np.mean([log_evidence(f, y) for y in one_hot(labels, labels.max() + 1).T]))


def class_means(f, labels):
    out = np.zeros_like(f)
    for c in range(labels.max() + 1):
        out[labels == c] = f[labels == c].mean(0)
    return out


def h_score(f, labels):
    return float(np.trace(np.linalg.pinv(np.cov(f.T), rcond=1e-12) @ np.cov(class_means(f, labels).T)))


def ledoit_wolf(f):
    """Shrinkage and covariance as in section 3 of the paper of 2004."""
    n, d = f.shape
    x = f - f.mean(0)
    s = x.T @ x / n
    mu = np.trace(s) / d
    delta2 = np.sum((s - mu * np.eye(d)) ** 2) / d
    beta2 = sum(np.sum((np.outer(row, row) - s) ** 2) for row in x) / d / n**2
    shrinkage = min(beta2, delta2) / delta2
    return shrinkage, (1 - shrinkage) * s + shrinkage * mu * np.eye(d)


def shrunk_h_score(f, labels):
    shrinkage, covariance = ledoit_wolf(f)
    return float((1 - shrinkage) * np.trace(np.linalg.pinv(covariance, rcond=1e-12) @ np.cov(class_means(f, labels).T, bias=True)))


def coding_rate(z, epsilon):
    n, d = z.shape
    return np.linalg.slogdet(np.eye(d) + z.T @ z / (n * epsilon))[1] / 2


def trans_rate(f, labels, epsilon, unit_trace):
    if unit_trace:
        f = f / np.sqrt(np.trace(f @ f.T))
    z = f - f.mean(0)
    classes = labels.max() + 1
    return float(coding_rate(z, epsilon) - sum(coding_rate(z[labels == c], epsilon) for c in range(classes)) / classes)


def leep(theta, labels):
    joint = one_hot(labels, labels.max() + 1).T @ theta / len(labels)
    conditional = joint / joint.sum(0)
    return float(np.mean(np.log(np.sum(conditional[labels] * theta, axis=1))))


def nce(sources, labels):
    n = len(labels)
    out = 0.0
    for y in range(labels.max() + 1):
        for z in range(sources.max() + 1):
            both = np.sum((labels == y) & (sources == z)) / n
            if both > 0:
                out += both * np.log(both / (np.sum(sources == z) / n))
    return float(out)


def labels_of(n, classes):
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes) ** 2 // max(classes - 1, 1)])
    return labels.astype(int)


def features_of(labels, width, signal, offset=0.0):
    centres = rng.normal(size=(labels.max() + 1, width))
    return np.round(signal * centres[labels] + rng.normal(size=(len(labels), width)) + offset, 5)


def feature_case(name, f, labels):
    case = {"case": name, "features": f.tolist(), "labels": labels.tolist(), "log_me": log_me(f, labels)}
    case["h_score"] = h_score(f, labels)
    case["shrunk_h_score"] = shrunk_h_score(f, labels)
    for epsilon in (1e-4, 0.5):
        for unit_trace in (False, True):
            case.setdefault("trans_rate", []).append(
                {"epsilon": epsilon, "unit_trace": unit_trace, "value": trans_rate(f, labels, epsilon, unit_trace)})
    return case


def main():
    cases = []
    labels = labels_of(40, 3)
    cases.append(feature_case("tall", features_of(labels, 8, 0.7), labels))
    cases.append(feature_case("tall, far from 0", features_of(labels, 6, 1.0, 5.0), labels))
    cases.append(feature_case("tall, nothing to tell classes by", features_of(labels, 5, 0.0, 1.0), labels))
    f = features_of(labels, 7, 0.8)
    f[:, 2], f[:, 4], f[:, 5] = 1.5, f[:, 0], 0.0
    cases.append(feature_case("tall, with a constant, an equal and an empty column", f, labels))
    labels = labels_of(15, 2)
    cases.append(feature_case("wide", features_of(labels, 24, 0.8, 0.3), labels))
    f = features_of(labels, 6, 0.8, 0.3)
    cases.append(feature_case("wide, of rank 6", f @ rng.normal(size=(6, 20)), labels))
    labels = labels_of(12, 4)
    cases.append(feature_case("square", features_of(labels, 12, 1.5), labels))
    cases.append(feature_case("two samples", features_of(np.array([0, 1]), 3, 1.0), np.array([0, 1])))

    for n, classes, sources, sharp in ((30, 3, 6, 2.0), (25, 2, 40, 5.0), (8, 4, 1, 1.0)):
        labels = labels_of(n, classes)
        logits = sharp * (rng.normal(size=(classes, sources))[labels] + rng.normal(size=(n, sources)))
        theta = np.exp(logits)
        theta /= theta.sum(1, keepdims=True)
        chosen = theta.argmax(1)
        cases.append({"case": f"{sources} source classes", "probabilities": theta.tolist(), "labels": labels.tolist(),
                      "source_labels": chosen.tolist(), "leep": leep(theta, labels), "nce": nce(chosen, labels)})
    theta = one_hot(np.array([0, 1, 1, 0]), 3)  # a source class that nothing belongs to
    labels = np.array([0, 1, 0, 0])
    joint = one_hot(labels, 2).T @ theta[:, :2] / 4
    cases.append({"case": "sure source", "probabilities": theta.tolist(), "labels": labels.tolist(), "source_labels": [0, 1, 1, 0],
                  "leep": leep(theta[:, :2], labels), "nce": nce(np.array([0, 1, 1, 0]), labels)})

    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    text = f'{{"schema": 1, "made_with": "numpy {np.__version__}", "cases": [\n{lines}\n]}}\n'
    (pathlib.Path(__file__).resolve().parent / "transferability.json").write_text(text)
    for case in cases:
        print(case["case"], {k: v for k, v in case.items() if "score" in k or "me" in k or k in ("leep", "nce", "trans_rate")})


if __name__ == "__main__":
    main()
