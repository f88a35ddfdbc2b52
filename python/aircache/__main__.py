"""`python -m aircache import FORMAT …` runs an importer, `questions` converts a benchmark; other commands go to the binary."""

import subprocess
import sys

from . import binary


def main():
    if sys.argv[1:2] == ["import"]:
        from .importers import main as importer

        return importer(sys.argv[2:])
    if sys.argv[1:2] == ["questions"]:
        from .questions import main as converter

        return converter(sys.argv[2:])
    return subprocess.call([binary.path(), *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
