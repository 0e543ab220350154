"""Import the openai client without the hundreds of types that one call never needs.

``openai`` itself, ``openai.types``, ``openai.lib`` and their subpackages do little but gather names of their modules,
and importing any one of these gathers all. So does ``httpcore2``, of which a call needs the network alone, and
``asyncio``, which the client imports for calls that nobody makes here. Such a package is gathered only when somebody
asks it for a name that is none of its modules, and in none of those that a call needs. This saves a command more than
half of the whole import, 0.1 s or more; a server that starts once has no use for it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_CLIENT = "openai"
_PACKAGES = (_CLIENT, "openai.types", "openai.lib", "httpcore2", "asyncio")
#: The modules of a package that have what a call needs of it.
_NEEDED = {
    _CLIENT: ("_client", "_types", "_exceptions"),
    "httpcore2": ("_backends.base", "_backends.sync", "_exceptions", "_types"),
}
_lock = threading.RLock()


class _LazyPackages(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _PACKAGES and not fullname.startswith(("openai.types.", "openai.lib.")):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader and spec.submodule_search_locations is not None:
            spec.loader = _LazyLoader(spec.loader)
        return spec


class _LazyLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _LazyPackage(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["_gather"] = self._loader.exec_module


class _LazyPackage(ModuleType):
    """A package that runs its ``__init__`` when a name is missing, and not before."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            if PathFinder.find_spec(f"{self.__name__}.{name}", list(self.__path__)):
                return import_module(f"{self.__name__}.{name}")
            for needed in _NEEDED.get(self.__name__, ()) if "_gather" in self.__dict__ else ():
                module = import_module(f"{self.__name__}.{needed}")
                if hasattr(module, name):
                    return getattr(module, name)
            with _lock:
                gather = self.__dict__.pop("_gather", None)
                if gather:
                    gather(self)
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")


def import_lean() -> None:
    """From now on ``import openai`` takes the short way. Without effect where the client has been imported already."""
    if _CLIENT not in sys.modules and not any(
        isinstance(finder, _LazyPackages) for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, _LazyPackages())
