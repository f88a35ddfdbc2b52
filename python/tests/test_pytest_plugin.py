"""The pytest plugin, as a user's own tests run it."""

import shutil

TEST = """
import numpy as np

def test_honest(golden):
    g = golden("demo")
    g.assert_honest({"decoder.norm": g["decoder.norm"]})

def test_broken(golden):
    g = golden("demo")
    g.assert_honest({"decoder.norm": g["decoder.norm"] * np.float32(1.01)})
"""


def test_a_failure_names_the_stage_and_leaves_a_page(pytester):
    pytester.makepyfile(TEST)
    result = pytester.runpytest_subprocess("--aircache-html", "pages")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*AssertionError: first divergence: decoder.norm*", "*page: *test_broken.html"])
    pages = list((pytester.path / "pages").iterdir())
    assert len(pages) == 1 and "decoder.norm" in pages[0].read_text()
    # The demo golden is recorded once.
    assert len(list(pytester.path.glob(".pytest_cache/d/aircache/*"))) == 1


def test_goldens_lie_beside_the_test_or_where_the_ini_says(pytester, demo):
    pytester.makepyfile("""
        def test_beside(golden):
            assert golden("mine")["input.ids"].shape == (507,)
        def test_elsewhere(golden):
            assert golden("other")["input.ids"].shape == (507,)
        def test_nowhere(golden):
            golden("none")
    """)
    for folder, name in (("goldens", "mine"), ("elsewhere", "other")):
        pytester.mkdir(folder)
        shutil.copy(demo, pytester.path / folder / f"{name}.safetensors")
    pytester.makeini("[pytest]\naircache_goldens = elsewhere")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*golden 'none': no such file*there are: mine, other*"])
