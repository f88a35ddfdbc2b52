"""Finds the `aircache` binary that the wheel carries, and runs it. Not here: what its answers mean."""

import functools
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from .errors import Error

NAME = "aircache.exe" if sys.platform == "win32" else "aircache"


@functools.lru_cache
def path():
    """The binary: `AIRCACHE_BINARY`, else the one installed with this module, else the one on the PATH."""
    if named := os.environ.get("AIRCACHE_BINARY"):
        return named
    user = sysconfig.get_preferred_scheme("user")
    folders = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", scheme=user), Path(sys.executable).parent]
    # `pip install --target DIR` puts the module into DIR and the binary into DIR/bin.
    folders.append(Path(__file__).parents[1] / "bin")
    for folder in folders:
        if (file := Path(folder) / NAME).is_file():
            return str(file)
    if found := shutil.which(NAME):
        return found
    raise Error(f"the program {NAME} is in none of {', '.join(map(str, folders))}: run `pip install ./python` in a clone")


def run(*words, accept=(0,)):
    """Runs a command and returns its standard output and its exit code. The error line of the binary becomes an `Error`."""
    done = subprocess.run([path(), *map(str, words)], capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode not in accept:
        told = done.stderr.strip().removeprefix("aircache: ").removeprefix("error: ")
        raise Error(told or f"{NAME} ended with exit code {done.returncode} and said nothing")
    return done.stdout, done.returncode


def answer(*words, accept=(0,)):
    """The JSON that a command prints."""
    return json.loads(run(*words, "--quiet", "--json", accept=accept)[0])


def options(given):
    """Keyword arguments as options: `max_new_tokens=8` is `--max-new-tokens 8`. A list repeats its option, True stands for
    an option without a value; None and False leave the option out."""
    words = []
    for key, value in given.items():
        flag = "--" + key.replace("_", "-")
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is True:
                words.append(flag)
            elif one is not None and one is not False:
                words += [flag, str(one)]
    return words
