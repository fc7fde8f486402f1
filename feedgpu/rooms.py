"""How the packages in feedgpu open: a name is imported when it is first used, a missing extra is named."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from sys import modules


class MissingExtra(ImportError):
    "A library is not installed that a part of feedgpu needs: one sentence, with the command that installs it"


def missing(who: str, library: str, extra: str) -> MissingExtra:
    "`who` needs `library`, which the `extra` of this package brings"
    return MissingExtra(f"{who} needs {library}, which is not installed: pip install 'feed-the-gpu[{extra}]'")


def require(who: str, module: str, library: str, extra: str) -> None:
    "Raises MissingExtra where the module of a library is not there; imports nothing"
    if modules.get(module) is None and find_spec(module) is None:
        raise missing(who, library, extra)


def lazily(
    package: str, homes: dict[str, list[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    "`__getattr__` and `__dir__` of a package whose public names lie in its modules: {module: [name, ...]}"
    home_of = {name: home for home, names in homes.items() for name in names}

    def getattr_(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f".{home_of[name]}", package), name)
        setattr(modules[package], name, value)
        return value

    def dir_() -> list[str]:
        return sorted({*vars(modules[package]), *home_of})

    return getattr_, dir_
