#!/usr/bin/env python3
"""make_compare.py: paired differences and sign tests by scipy 1.17.1 and numpy 2.4.6. Writes tests/golden/metrics/compare.json."""

import json
from pathlib import Path

import numpy as np
import scipy
from scipy import stats

r = np.random.default_rng(26)
cases = []
for n in (2, 7, 50, 400, 1000):
    for kind in ("shares", "scores", "equal"):
        first = (r.random(n) < 0.8).astype(float) if kind != "scores" else r.random(n).round(3)
        second = np.where(r.random(n) < 0.15, (r.random(n) < 0.5) if kind != "scores" else r.random(n).round(3), first) if kind != "equal" else first
        d = second - first
        better, worse = int((d > 0).sum()), int((d < 0).sum())
        error = stats.sem(d)
        low, high = stats.norm.interval(0.95, d.mean(), error) if error > 0 else (d.mean(), d.mean())
        p = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
        case = {"first": first, "second": second, "difference": d.mean(), "stderr": error, "low": low, "high": high, "sign_test": p}
        cases.append({k: np.asarray(v, float).tolist() for k, v in case.items()})
out = Path(__file__).parents[1] / "metrics/compare.json"
out.write_text(json.dumps({"scipy": scipy.__version__, "numpy": np.__version__, "cases": cases}) + "\n")
