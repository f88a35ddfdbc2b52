"""`python -m aircache import FORMAT …` runs an importer; every other command goes to the binary."""

import subprocess
import sys

from . import binary


def main():
    if sys.argv[1:2] == ["import"]:
        from .importers import main as importer

        return importer(sys.argv[2:])
    return subprocess.call([binary.path(), *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
