"""What goes wrong: one message that names the place, what was expected, what was found, and what to do."""


class Error(ValueError):
    """Bad usage or bad input. A wrong number is no `Error`: it is a verdict."""


class LayoutError(Error):
    """An array whose name, shape or type no stage has."""


def message(where, expected, found, remedy=""):
    """`where: expected …, found …; remedy`, as the binary says it."""
    return f"{where}: expected {expected}, found {found}" + (f"; {remedy}" if remedy else "")
