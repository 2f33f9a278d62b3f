"""Writes testdata/one_class.json: one-class SVMs as scikit-learn's OneClassSVM fits them.

Made with numpy 2.4.6 and scikit-learn 1.9.1 (testdata/oracles/requirements.txt).

Usage: python testdata/make/one_class.py [--check]
With --check it writes nothing and fails where the committed file differs.
"""

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM

TARGET = Path(__file__).resolve().parent.parent / "one_class.json"


def case(name, rows, probes, labels, nu, gamma):
    rows, probes = (np.round(np.asarray(table), 3) for table in (rows, probes))
    # So strict a tolerance that the support vectors are those of the one solution.
    machine = OneClassSVM(kernel="rbf", nu=nu, gamma=gamma, tol=1e-9).fit(rows)
    scores = machine.decision_function(probes)
    return {
        "name": name,
        "nu": nu,
        "gamma": gamma,
        "rows": rows.tolist(),
        "probes": probes.tolist(),
        "labels": [bool(label) for label in labels],
        "support": machine.support_.tolist(),
        "coefficients": [float(f"{value:.9g}") for value in machine.dual_coef_[0]],
        "rho": float(-machine.intercept_[0]),
        "decisions": [float(f"{value:.9g}") for value in scores],
        "auc": float(roc_auc_score(labels, -scores)),
    }


def cases():
    rng = np.random.default_rng(13)
    angle = rng.uniform(0, 2 * np.pi, 240)
    ring = np.column_stack([np.cos(angle), np.sin(angle)]) * (1.4 + 0.1 * rng.standard_normal((240, 1)))
    inside = 0.4 * rng.standard_normal((40, 2))
    yield case("ring", ring[:160], np.vstack([ring[160:], inside]), [0] * 80 + [1] * 40, 0.1, 1.0)
    mix = rng.standard_normal((3, 6))
    normal = rng.standard_normal((260, 3)) @ mix + 0.3 * rng.standard_normal((260, 6))
    scale = normal[:180].std(axis=0)
    odd = rng.standard_normal((60, 6)) * normal.std(axis=0)
    probes = np.vstack([normal[180:], odd]) / scale
    yield case("correlated", normal[:180] / scale, probes, [0] * 80 + [1] * 60, 0.05, 1 / 6)
    yield case("half outliers", normal[:100] / scale, probes, [0] * 80 + [1] * 60, 0.5, 0.5)


def main():
    text = json.dumps(list(cases()), separators=(",", ":")).replace('},{"name"', '},\n{"name"') + "\n"
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    committed = json.loads(TARGET.read_text(encoding="utf-8"))
    for found, expected in zip(json.loads(text), committed, strict=True):
        for key, value in expected.items():
            same = found[key] == value if isinstance(value, str) else np.allclose(found[key], value, rtol=0, atol=1e-6)
            if not same:
                print(f"{expected['name']}: {key} is {found[key]}, the committed file has {value}")
                return 1
    print(f"{len(committed)} cases equal scikit-learn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
