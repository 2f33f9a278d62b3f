"""Writes testdata/forest.json: forests of scikit-learn with rows and what it makes of them.

Needs the packages of testdata/oracles/requirements.txt.

Usage: python testdata/make/forest.py [--check | --large FILE]
With --check it writes nothing and fails where the committed file differs. With --large it writes
forests of a hundred trees with many rows to another file, for the ignored test of crates/train/tests/forest.rs.
"""

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest, RandomForestClassifier

TARGET = Path(__file__).resolve().parent.parent / "forest.json"


def columns(draw, count, width):
    """Rows whose numbers are not evenly spaced, some of them from a coarse grid, so that rows fall on thresholds."""
    rows = draw.standard_normal((count, width)) * 10.0 ** draw.uniform(-3, 3, width)
    rows[:, 0] = np.round(rows[:, 0] / np.abs(rows[:, 0]).max() * 8)
    rows[:, 1] = np.exp(draw.standard_normal(count))
    return rows.astype(np.float32)


def class_of(draw, rows, class_count):
    centred = (rows - rows.mean(0)) / rows.std(0)
    score = centred[:, 0] * centred[:, 1] + np.sin(2 * centred[:, 2]) + 0.3 * draw.standard_normal(len(rows))
    return np.digitize(score, np.quantile(score, np.arange(1, class_count) / class_count))


def trees(estimators, features=None, shares=False):
    found = []
    for index, estimator in enumerate(estimators):
        tree = estimator.tree_
        taken = np.arange(tree.n_features) if features is None else features[index]
        found.append(
            {
                "left": tree.children_left.tolist(),
                "right": tree.children_right.tolist(),
                "feature": [int(taken[f]) if f >= 0 else -1 for f in tree.feature],
                "threshold": tree.threshold.tolist(),
                # Of the leaves, in the order of the nodes.
                "values": tree.value[tree.children_left < 0, 0, :].tolist() if shares else [],
                "rows": [] if shares else tree.n_node_samples[tree.children_left < 0].tolist(),
            }
        )
    return found


def random_forest(name, seed, class_count, fit_rows, test_rows, **options):
    draw = np.random.default_rng(seed)
    width = 5
    rows = columns(draw, fit_rows + test_rows, width)
    classes = class_of(draw, rows, class_count)
    model = RandomForestClassifier(random_state=seed, n_jobs=1, **options).fit(rows[:fit_rows], classes[:fit_rows])
    # Rows of the fit, too: only they fall on thresholds.
    asked = np.concatenate([rows[fit_rows:], rows[: test_rows // 2]])
    return {
        "name": name,
        "kind": "random forest",
        "width": width,
        "class_count": class_count,
        "trees": trees(model.estimators_, shares=True),
        "rows": [[float(x) for x in row] for row in asked],
        "classes": model.predict(asked).tolist(),
        "shares": model.predict_proba(asked).round(9).tolist(),
    }


def isolation_forest(name, seed, fit_rows, test_rows, **options):
    draw = np.random.default_rng(seed)
    width = 4
    rows = columns(draw, fit_rows + test_rows, width)
    rows[fit_rows::7] *= 4
    model = IsolationForest(random_state=seed, **options).fit(rows[:fit_rows])
    return {
        "name": name,
        "kind": "isolation forest",
        "width": width,
        "rows_per_tree": int(model.max_samples_),
        "trees": trees(model.estimators_, model.estimators_features_),
        "rows": [[float(x) for x in row] for row in rows[fit_rows:]],
        "scores": (-model.score_samples(rows[fit_rows:])).tolist(),
    }


def cases():
    yield random_forest("two classes", 1, 2, 300, 100, n_estimators=12, max_depth=5)
    yield random_forest("five classes", 2, 5, 300, 100, n_estimators=6, max_depth=5)
    yield random_forest("balanced", 3, 3, 200, 60, n_estimators=10, max_depth=5, class_weight="balanced")
    yield random_forest("to the end", 4, 2, 200, 60, n_estimators=9)
    yield isolation_forest("isolation", 5, 400, 150, n_estimators=12, max_samples=64)


def large_cases():
    for seed in (11, 12, 13):
        yield random_forest(f"large {seed}", seed, 2, 4000, 12000, n_estimators=100, max_depth=10)
    yield random_forest("large, few trees", 14, 2, 2000, 12000, n_estimators=10, max_depth=10)
    yield random_forest("large, balanced", 15, 4, 4000, 12000, n_estimators=60, max_depth=8, class_weight="balanced")
    yield random_forest("large, to the end", 16, 3, 4000, 12000, n_estimators=50)


def text_of(found):
    return json.dumps(found, separators=(",", ":")).replace('},{"', '},\n{"') + "\n"


def numbers(value):
    """All numbers of a nested value, in order."""
    if isinstance(value, (list, tuple)):
        return [number for part in value for number in numbers(part)]
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    return [value] if isinstance(value, (int, float)) else []


def main():
    if "--large" in sys.argv[1:]:
        Path(sys.argv[-1]).write_text(text_of(list(large_cases())), encoding="utf-8")
        return 0
    found = list(cases())
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text_of(found), encoding="utf-8")
        return 0
    committed = json.loads(TARGET.read_text(encoding="utf-8"))
    for ours, expected in zip(found, committed, strict=True):
        if not np.allclose(numbers(ours), numbers(expected), rtol=0, atol=1e-12):
            print(f"{expected['name']}: differs from the committed file")
            return 1
    print(f"{len(committed)} cases equal scikit-learn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
