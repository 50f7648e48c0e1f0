"""Import the modules and files that hold handlers. Called by the forkserver, by workers without one, by `jqd --check`
and by tests.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from jobqueue.errors import JobQueueError
from jobqueue.handlers import Registry, current


class HandlersNotLoaded(JobQueueError):
    """A module of `handlers:` could not be imported; the reason is the `__cause__`."""

    def __init__(self, name: str, error: BaseException) -> None:
        self.name = name
        super().__init__(f"handlers: importing {name!r} failed: {type(error).__name__}: {error}")


def load(handlers: Sequence[str]) -> Registry:
    """Import each of `handlers` (a module, or a file ending in .py; the current folder is on sys.path) and compile what
    they registered.

    Raises HandlersNotLoaded, naming the entry, from whatever the import raised; InvalidHandler.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    for name in handlers:
        try:
            if name.endswith(".py"):
                _import_file(Path(name).resolve())
            else:
                importlib.import_module(name)
        except (Exception, SystemExit) as error:
            raise HandlersNotLoaded(name, error) from error
    return current().prepare()


def _import_file(path: Path) -> ModuleType:
    """Under its ordinary name if an import would find this very file, so that it is never there twice; else under one
    of its own.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if (name := _ordinary_name(path)) is not None:
        return importlib.import_module(name)
    name = f"{path.stem}_{hashlib.blake2s(os.fsencode(path), digest_size=4).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _ordinary_name(path: Path) -> str | None:
    try:
        parts = path.relative_to(Path.cwd()).with_suffix("").parts
    except ValueError:
        return None
    if not all(part.isidentifier() for part in parts):
        return None
    name = ".".join(parts)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    found = spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path
    return name if found else None
