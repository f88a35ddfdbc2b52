"""The verdict on a candidate, as an object, and as one assertion. The binary judges; nothing is judged here."""

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from . import binary
from .bundle import Bundle
from .errors import Error, message


@dataclass(frozen=True)
class StageVerdict:
    """The verdict on one stage. ratio: error / ruler, and 1 is the noise of an honest computation; allowed: the largest
    ratio that passes; statistic: what decided (element, row, head, whole, …)."""

    stage: str
    verdict: str  # pass, admissible, fail, not judged
    words: str = ""
    error: float | None = None
    ruler: float | None = None
    ratio: float | None = None
    allowed: float | None = None
    statistic: str = ""
    index: list = field(default_factory=list)  # the worst element
    expected: float | None = None
    got: float | None = None
    unit: str = ""  # in which the error is measured: value, σ (a column's usual error), share, along, score
    cause: str | None = None  # what was computed instead, if that is known

    def __str__(self):
        value = lambda x: "?" if x is None else f"{float(x):.6f}"
        where = ", ".join(map(str, self.index))
        place = f"; worst at [{where}]: expected {value(self.expected)}, got {value(self.got)}" if self.index else ""
        return f"{self.stage}, {self.words}{place}"


@dataclass(frozen=True)
class Verdict:
    """The verdict on a candidate. `if verdict:` is whether it passes; `str(verdict)` says why, or why not."""

    passed: bool
    mode: str  # golden, replay or kernel
    precision: str
    stages: tuple  # StageVerdict, in causal order
    first: StageVerdict | None  # the first divergence
    missing: tuple = ()
    unknown: tuple = ()
    notes: tuple = ()
    html: Path | None = None  # the page, if one was asked for

    def __bool__(self):
        return self.passed

    def __getitem__(self, stage):
        """The verdict on one stage."""
        return next(s for s in self.stages if s.stage == stage)

    @property
    def cause(self):
        """What the candidate computed instead at the first divergence, in words; empty if that is not known."""
        return (self.first.cause if self.first else None) or ""

    @property
    def ratios(self):
        """error / ruler of each stage that is judged by a ruler."""
        return {s.stage: s.ratio for s in self.stages if s.ratio is not None}

    @property
    def counts(self):
        """How many stages passed, were admissible, failed, were not judged."""
        kinds = ("pass", "admissible", "fail", "not judged")
        return {kind: sum(s.verdict == kind for s in self.stages) for kind in kinds}

    def __str__(self):
        told = ", ".join(f"{n} {kind}" for kind, n in self.counts.items() if n)
        if self.first:
            lines = [f"first divergence: {self.first}"]
            lines += [f"cause: {self.cause}"] if self.cause else []
            later = [s.stage for s in self.stages if s.verdict == "fail" and s is not self.first]
            if later:
                more = f" and {len(later) - 4} more" if len(later) > 4 else ""
                lines.append(f"failed as well: {', '.join(later[:4])}{more}")
        elif not self.passed:
            lines = ["the verdict is strict, and something was not judged"]
        else:
            lines = [f"pass: the error of every judged stage is that of an honest {self.precision} computation"]
        lines += [f"note: {note}" for note in self.notes]
        lines.append(f"stages: {told} (judged by {self.mode})")
        if self.html:
            lines.append(f"page: {self.html}")
        return "\n".join(lines)


def from_json(told, html=None):
    """The answer of `check --json`."""
    names = {f.name for f in fields(StageVerdict)}
    stages = tuple(StageVerdict(**{k: v for k, v in stage.items() if k in names}) for stage in told["stages"])
    first = next((s for s in stages if s.stage == told["first_divergence"]), None)
    unknown = tuple(u["name"] if isinstance(u, dict) else u for u in told.get("unknown", ()))
    return Verdict(
        told["verdict"] == "pass", told["mode"], told["precision"], stages, first,
        tuple(told.get("missing", ())), unknown, tuple(told.get("notes", ())), html and Path(html),
    )  # fmt: skip


def check(candidate, *, golden=None, model=None, precision=None, metadata=None, html=None, **asked):
    """Judges a candidate, and returns the `Verdict`.

    candidate: a `Bundle`, a file, or a dict of arrays by stage name. golden: a file, a `Bundle`, or what the fixture `golden`
    gives. model: a checkpoint folder or `demo`, in place of a golden: then every stage is recomputed from the candidate's own
    inputs. precision and metadata describe a dict; left out, the type of the arrays is the precision. Further keywords are
    options of `aircache check`: `image`, `prompt`, `system`, `sample`, `strict`, `threads`.
    """
    if (golden is None) == (model is None):
        found = "neither" if golden is None else "both"
        raise Error(message("check", "golden=… or model=…", found, 'model="demo" is the model inside the program'))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aircache-")))
        golden = _file(golden, folder / "golden.safetensors") if golden is not None else None
        if isinstance(candidate, Mapping) and not isinstance(candidate, Bundle):
            candidate = Bundle(precision, model=model, like=golden, **(metadata or {})).update(candidate)
        candidate = _file(candidate, folder / "candidate.safetensors")
        words = [golden, candidate] if golden is not None else ["--model", model, candidate]
        try:
            told = binary.answer("check", *words, *binary.options({**asked, "html": html}), accept=(0, 1))
        except Error as e:
            # A dict has no file that the reader could open.
            raise Error(str(e).replace(str(folder / "candidate.safetensors"), "the candidate")) from None
    return from_json(told, html)


def _file(bundle, path):
    if isinstance(bundle, Bundle):
        return bundle.save(path)
    if not isinstance(bundle, (str, os.PathLike)):
        raise Error(message("check", "a file, a Bundle or a dict of arrays", type(bundle).__name__))
    if not os.path.exists(bundle):
        raise Error(message(os.fspath(bundle), "a bundle", "no such file"))
    return os.fspath(bundle)


# Where the pytest plugin wants the page of a failure; it sets this for each test.
page_of_failure = None


def assert_honest(candidate, **how):
    """Asserts that every number of the candidate is one that an honest computation gives; takes what `check` takes.

    Raises `AssertionError` with the first divergence in words: stage, head or row, size in rulers, and what it looks like.
    Returns the verdict.
    """
    __tracebackhide__ = True
    return judged(check, candidate, **how)


def judged(judge, *what, **how):
    """The verdict of `judge`, if it passes; its page goes where the pytest plugin wants it."""
    __tracebackhide__ = True
    page = how.pop("html", None) or page_of_failure
    if page and not Path(page).parent.is_dir():
        Path(page).parent.mkdir(parents=True)
    verdict = judge(*what, html=page, **how)
    if not verdict:
        raise AssertionError(str(verdict))
    if page and page == page_of_failure:
        Path(page).unlink(missing_ok=True)
    return verdict
