"""In processes of a master under test: the worker, the steward and the exporter are the ones of this folder.

They need no Redis, so what is tested is supervision alone. Found through PYTHONPATH by every interpreter the master starts.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_HERE = os.path.dirname(os.path.abspath(__file__))
_STUBS = {f"supervisor.roles.{name}": f"{name}.py" for name in ("worker", "steward", "exporter")}


class _Stubs:
    @staticmethod
    def find_spec(
        name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _STUBS:
            return None
        return importlib.util.spec_from_file_location(name, os.path.join(_HERE, _STUBS[name]))


sys.meta_path.insert(0, _Stubs)
