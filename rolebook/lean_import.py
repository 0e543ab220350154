"""Import packages without the hundreds of modules that Rolebook never needs of them.

``openai`` itself, ``openai.types``, ``openai.lib`` and their subpackages do little but gather names of their modules,
and importing any one of these gathers all. So do ``httpcore2``, of which a call needs the network alone, and
``asyncio`` and ``anyio``, which the client imports for calls that nobody makes here. Such a package is gathered only
when somebody asks it for a name that is none of its modules, and in none of those that a call needs. This saves a
command more than half of the client's import, 0.1 s or more, and a server a tenth of its memory. Of sqlite-utils, what
its own command line converts dates and JSON with is left out until somebody does.

Some modules make what nobody needs here as they are imported: regular expressions over half of Unicode, and a class for
each kind of pydantic's schemas, with every part of it looked at. These modules find a stand-in where they import what
makes it, which makes it late, or not at all. Nobody else's imports are touched.
"""

from __future__ import annotations

import builtins
import re
import sys
import typing
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

import typing_extensions

_PACKAGES = ("openai", "openai.types", "openai.lib", "httpcore2", "asyncio", "anyio")
_WITH_SUBPACKAGES = ("openai.types.", "openai.lib.")
#: The modules of a package that have what a call needs of it.
_NEEDED = {
    "openai": ("_client", "_types", "_exceptions"),
    "httpcore2": ("_backends.base", "_backends.sync", "_exceptions", "_types"),
}
#: Modules that are imported by others which only then need anything of them.
_LATE_MODULES = ("sqlite_utils.recipes",)
#: As if it were a module of the package: what gathers its names. So the import system sees to it that one thread does,
#: and that all others wait for it, whatever else they import meanwhile.
_WHOLE = "_whole_package"


class _LatePattern:
    """A regular expression that is made when something is asked of it. Python keeps it then."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self._made_of = pattern, flags

    def __getattr__(self, name: str) -> Any:
        return getattr(re.compile(*self._made_of), name)


class _PlainDict:
    """Makes dictionaries, as the subclasses of a TypedDict do, and knows nothing of what is in them."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Takes what a TypedDict takes."""

    def __new__(cls, *items: Any, **named: Any) -> Any:
        return dict(*items, **named)


class _StandIn(ModuleType):
    """A module but for some of its names."""

    def __init__(self, module: ModuleType, **instead: object) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(instead)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


_late_re = _StandIn(re, compile=_LatePattern)
#: What modules get where they import others.
_STAND_INS = {
    "sqlite_utils.db": {"re": _late_re},
    "yaml.reader": {"re": _late_re},
    "pydantic_core.core_schema": {
        module.__name__: _StandIn(module, TypedDict=_PlainDict)
        for module in (typing, typing_extensions)
    },
}


class _LazyPackages(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if name == _WHOLE:
            return ModuleSpec(fullname, _Gatherer(sys.modules[package]))
        if fullname in _LATE_MODULES:
            return _late(PathFinder.find_spec(fullname, path, target))
        if fullname in _STAND_INS:
            return _with_stand_ins(PathFinder.find_spec(fullname, path, target))
        if fullname not in _PACKAGES and not fullname.startswith(_WITH_SUBPACKAGES):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader and spec.submodule_search_locations is not None:
            spec.loader = _LazyLoader(spec.loader)
        return spec


def _late(spec: ModuleSpec | None) -> ModuleSpec | None:
    if spec and spec.loader:
        spec.loader = LazyLoader(spec.loader)
    return spec


def _with_stand_ins(spec: ModuleSpec | None) -> ModuleSpec | None:
    if spec and spec.loader:
        spec.loader = _StandInLoader(spec.loader, _STAND_INS[spec.name])
    return spec


class _StandInLoader(Loader):
    """Runs a module that finds stand-ins where it imports some others; nobody else does."""

    def __init__(self, loader: Loader, stand_ins: Mapping[str, ModuleType]) -> None:
        self._loader = loader
        self._stand_ins = stand_ins

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        def find(name: str, *rest: Any, **named: Any) -> Any:
            return self._stand_ins.get(name) or __import__(name, *rest, **named)

        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": find}
        self._loader.exec_module(module)


class _LazyLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _LazyPackage(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["_gather"] = self._loader.exec_module


class _Gatherer(Loader):
    def __init__(self, package: ModuleType) -> None:
        self._package = package

    def create_module(self, spec: ModuleSpec) -> None:
        """The import system makes it."""

    def exec_module(self, module: ModuleType) -> None:
        self._package.__dict__["_gather"](self._package)


class _LazyPackage(ModuleType):
    """A package that runs its ``__init__`` when a name is missing, and not before."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            if PathFinder.find_spec(f"{self.__name__}.{name}", list(self.__path__)):
                return import_module(f"{self.__name__}.{name}")
            whole = f"{self.__name__}.{_WHOLE}"
            for needed in _NEEDED.get(self.__name__, ()) if whole not in sys.modules else ():
                module = import_module(f"{self.__name__}.{needed}")
                if hasattr(module, name):
                    return getattr(module, name)
            import_module(whole)
            if name in self.__dict__:
                return self.__dict__[name]
            # Some packages have a way of their own to what is missing.
            if own := self.__dict__.get("__getattr__"):
                return own(name)
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")


def import_lean() -> None:
    """From now on these packages are imported the short way, if they have not been imported already."""
    if not any(isinstance(finder, _LazyPackages) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LazyPackages())
