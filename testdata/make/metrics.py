"""Writes testdata/metrics.json: ranking metrics of small cases as scikit-learn computes them.

Needs the packages of testdata/oracles/requirements.txt.

Usage: python testdata/make/metrics.py [--check]
With --check it writes nothing and fails where the committed file differs.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
from sklearn import metrics

TARGET = Path(__file__).resolve().parent.parent / "metrics.json"


def case(name, scores, labels, threshold):
    predicted = [score > threshold for score in scores]
    curve = metrics.roc_curve(labels, scores, drop_intermediate=False)
    return {
        "name": name,
        "scores": scores,
        "labels": labels,
        "threshold": threshold,
        "roc_auc": float(metrics.roc_auc_score(labels, scores)),
        "average_precision": float(metrics.average_precision_score(labels, scores)),
        "precision": float(metrics.precision_score(labels, predicted)),
        "recall": float(metrics.recall_score(labels, predicted)),
        "f1": float(metrics.f1_score(labels, predicted)),
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        # tn, fp, fn, tp
        "confusion": metrics.confusion_matrix(labels, predicted).ravel().tolist(),
        "roc_curve": np.column_stack(curve[:2]).tolist(),
    }


def cases():
    draw = random.Random(20240501)
    yield case("four", [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.375)
    labels = [int(draw.random() < 0.2) for _ in range(120)]
    scores = [round(draw.gauss(label, 0.7), 6) for label in labels]
    yield case("overlapping", scores, labels, 0.5)
    yield case("many ties", [round(score, 1) for score in scores], labels, 0.45)
    yield case("two levels", [float(score > 0.5) for score in scores], labels, 0.5)
    yield case("worse than chance", [-score for score in scores], labels, -0.5)
    rare = [int(index == 57) for index in range(200)]
    yield case("one anomaly", [round(draw.random() + 0.5 * label, 6) for label in rare], rare, 0.9)


def main():
    text = json.dumps(list(cases()), separators=(",", ":")).replace('},{"name"', '},\n{"name"') + "\n"
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    committed = json.loads(TARGET.read_text(encoding="utf-8"))
    for found, expected in zip(json.loads(text), committed, strict=True):
        for key, value in expected.items():
            same = found[key] == value if isinstance(value, str) else np.allclose(found[key], value, rtol=0, atol=1e-12)
            if not same:
                print(f"{expected['name']}: {key} is {found[key]}, the committed file has {value}")
                return 1
    print(f"{len(committed)} cases equal scikit-learn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
