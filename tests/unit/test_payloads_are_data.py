"""Nothing of ours turns bytes into code: no pickle, no eval, no import by a name that came from a payload."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for room in ("jobqueue", "supervisor") for path in (ROOT / room).rglob("*.py"))
MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "jsonpickle",
    "code",
    "codeop",
    "runpy",
    "imp",
}
CALLS = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
# Attributes by which something is imported, executed, or loaded with constructors of its own choice.
ATTRIBUTES = {
    "import_module", "exec_module", "load_module", "unsafe_load", "full_load", "yaml.load", "load_all", "system", "popen", "getoutput", "loads_pickle",
    "find_spec", "spec_from_file_location", "module_from_spec", "shell",
}  # fmt: skip
ALLOWED = {
    # Handler modules, named by the file of settings.
    "jobqueue/loading.py": {"import_module", "exec_module", "find_spec", "spec_from_file_location", "module_from_spec"},
    # A fresh interpreter for a role: `supervisor.spawn`'s own function of that name.
    "supervisor/spawn.py": {"exec_module"},
    # Names that stand in the same file.
    "jobqueue/__init__.py": {"import_module"},
    "supervisor/metrics.py": {"find_spec", "import_module"},
    # Whether the package with the embedded server is there.
    "supervisor/server.py": {"find_spec"},
}


def findings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name) for name in names if name.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                yield node.lineno, module
            case ast.Call(func=ast.Name(id=name)) if name in CALLS | ATTRIBUTES:
                yield node.lineno, name
            case ast.Call(func=ast.Attribute(value=ast.Name(id="yaml"), attr="load")):
                yield node.lineno, "yaml.load"
            case ast.Call(func=ast.Attribute(attr=name)) if name in ATTRIBUTES:
                yield node.lineno, name
            case ast.keyword(arg="shell", value=ast.Constant(value=True)):
                yield node.value.lineno, "shell"


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 80


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_bytes_are_never_made_code(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    found = [
        (line, what) for line, what in findings(ast.parse(path.read_text())) if what not in ALLOWED.get(name, set())
    ]
    assert not found, f"{name}: {found}"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval(x)",
        "importlib.import_module(x)",
        "yaml.load(x)",
        "run(x, shell=True)",
        "__import__(x)",
    ],
)
def test_each_way_is_found(source: str) -> None:
    assert list(findings(ast.parse(source)))


def test_a_type_that_names_a_module_is_only_a_name() -> None:
    """The registry knows what was registered, and looks nothing up."""
    from jobqueue.handlers import Registry

    for name in (
        "os:system",
        "os.system",
        "jobqueue.demo:crash",
        "__import__",
        "builtins.eval",
        "../../etc/passwd",
        "",
    ):
        assert Registry().get(name) is None
