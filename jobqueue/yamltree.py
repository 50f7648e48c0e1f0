"""YAML text as a tree of values that know their place: `file:line:col` and path. `${NAME}` is expanded here.

It knows YAML and nothing of what the file is about; `jobqueue.yamlfile` turns the tree into settings. Duplicate keys, missing
variables and loops of aliases are faults here, and reading goes on, so that one run shows them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import yaml

from jobqueue import address
from jobqueue.errors import JobQueueError

MAX_VALUES: Final = 20_000
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<or>:-(?P<default>[^}\n]*))?\}|(?P<bad>\$\{[^}\n]*\}?)")
# A variable is hidden from PyYAML behind private-use characters of the same length: in a flow mapping its braces would be
# taken for YAML's own, and positions must not move.
_START, _PAD, _DIGIT = "\ue000", "\ue001", 0xE100
_HIDDEN = re.compile(f"{_START}([\ue100-\ue1ff])([\ue100-\ue1ff]){_PAD}*")
_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge")}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong. `line` and `column` count from 1; both are 0 when the fault is about the file, or not in a file."""

    line: int
    column: int
    path: str
    message: str
    file: str = ""

    def __str__(self) -> str:
        position = f":{self.line}:{self.column}" if self.line else ""
        return f"{self.file}{position}: " + (f"{self.path}: " if self.path else "") + self.message


class ConfigError(JobQueueError):
    """The settings cannot be used. Its text lists every fault found, one a line."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(sorted(faults))
        super().__init__("\n".join(str(fault) for fault in self.faults))


@dataclass(slots=True)
class Value:
    """A node: scalar (`text` and `kind`), list (`items`) or mapping (`entries`, with the place of each key).

    `kind` is str, int, float, bool, null, map, seq; `env` for a scalar that contained a variable: its type is then
    whatever is expected at that place; `bad` for what has been reported already and is to be passed over. `source` is
    the text as written, so that no error shows an expanded secret.
    """

    path: str
    line: int
    column: int
    kind: str
    text: str = ""
    source: str = ""
    items: list[Value] = field(default_factory=list)
    entries: dict[str, Value] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """What stands in the file, for an error message."""
        match self.kind:
            case "map":
                return "a mapping"
            case "seq":
                return "a list"
            case "null":
                return "nothing (null)"
            case "int" | "float" | "env":
                return address.masked(self.source)
            case "bool":
                return f"{self.source} (a yes or no)"
        text = address.masked(self.source)
        return repr(text if len(text) <= 60 else text[:57] + "…")


def parse(text: str, file: str, environ: Mapping[str, str], faults: list[Fault]) -> Value | None:
    """The tree of `text`, or None if it is not YAML or empty. Whatever is wrong is appended to `faults`."""
    hidden = _Hidden()
    try:
        node = yaml.compose(hidden.hide(text), Loader=_LOADER)
    except yaml.YAMLError as error:
        faults.append(_syntax_fault(error, text, file))
        return None
    if node is None:
        faults.append(Fault(0, 0, "", "the file is empty; config/jobqueue.yaml in the sources shows every key", file))
        return None
    return _Builder(file, environ, faults, hidden).value(node, "")


def _syntax_fault(error: yaml.YAMLError, text: str, file: str) -> Fault:
    """PyYAML's own problem and position, with a hint for the two mistakes whose message does not help."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        problem = f"not YAML: {error.problem}" + (f" ({error.context})" if error.context else "")
        written = text.splitlines()[line - 1] if 0 < line <= len(text.splitlines()) else ""
        if "\t" in written[: len(written) - len(written.lstrip())] or "\\t" in problem or "\t" in problem:
            problem += "; indent with spaces, not tabs"
        elif "alias" in problem:
            problem += '; quote a star: "*"'
        return Fault(line, column, "", " ".join(problem.split()), file)
    position = getattr(error, "position", None)
    if not isinstance(position, int):
        return Fault(0, 0, "", f"not YAML: {error}", file)
    before = text[:position]
    reason = f"not YAML: character {text[position : position + 1]!r} is not allowed"
    return Fault(before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1, "", reason, file)


class _Hidden:
    """The variables of one text, in order, and the way back from their stand-ins."""

    def __init__(self) -> None:
        self._variables: list[re.Match[str]] = []

    def hide(self, text: str) -> str:
        return _VARIABLE.sub(self._stand_in, text)

    def _stand_in(self, match: re.Match[str]) -> str:
        number = len(self._variables)
        if len(match[0]) < 3 or number >= 1 << 16:
            return match[0]
        self._variables.append(match)
        return f"{_START}{chr(_DIGIT + (number >> 8))}{chr(_DIGIT + (number & 255))}".ljust(len(match[0]), _PAD)

    def replace(self, text: str, by: Callable[[re.Match[str]], str]) -> str:
        def one(match: re.Match[str]) -> str:
            number = (ord(match[1]) - _DIGIT) << 8 | (ord(match[2]) - _DIGIT)
            return by(self._variables[number]) if number < len(self._variables) else match[0]

        return _HIDDEN.sub(one, text)


class _Builder:
    """One walk over PyYAML's nodes. An alias appears once for each use, so its faults name the place of each use's path."""

    def __init__(self, file: str, environ: Mapping[str, str], faults: list[Fault], hidden: _Hidden) -> None:
        self._file, self._environ, self._faults, self._hidden = file, environ, faults, hidden
        self._open: list[int] = []
        self._count = 0

    def value(self, node: yaml.Node, path: str) -> Value:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        made = Value(path, line, column, "null")
        self._count += 1
        if id(node) in self._open:
            self._fault(made, "an alias of a value that contains it")
        elif self._count == MAX_VALUES:
            self._fault(made, f"more than {MAX_VALUES} values, counting every use of an alias")
        elif self._count < MAX_VALUES:
            self._open.append(id(node))
            self._fill(made, node)
            self._open.pop()
        return made

    def _fill(self, made: Value, node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            made.kind = "map"
            self._mapping(made, node)
        elif isinstance(node, yaml.SequenceNode):
            made.kind = "seq"
            made.items = [self.value(item, f"{made.path}[{n}]") for n, item in enumerate(node.value)]
        elif isinstance(node, yaml.ScalarNode):
            made.kind, made.text = _TAGS.get(node.tag, "str"), node.value
            made.source = self._written(node.value)
            if node.tag not in _TAGS and not node.tag.endswith((":timestamp", ":value")):
                self._fault(made, f"the tag {node.tag} is not known here")
            if made.kind != "bad" and made.source != node.value:
                made.kind = "env"
                made.text = self._hidden.replace(node.value, lambda match: self._expanded(made, match))

    def _mapping(self, made: Value, node: yaml.MappingNode) -> None:
        merged: list[yaml.Node] = []
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fault(self.value(key, made.path), "a key must be plain text")
                continue
            if key.tag == "tag:yaml.org,2002:merge":
                merged += child.value if isinstance(child, yaml.SequenceNode) else [child]
                continue
            name, place = self._written(key.value), (key.start_mark.line + 1, key.start_mark.column + 1)
            path = f"{made.path}.{name}" if made.path else name
            if name in made.keys:
                first = made.keys[name]
                message = f"this key stands here twice, first in line {first[0]}; keep one"
                self._faults.append(Fault(*place, path, message, self._file))
                continue
            made.keys[name], made.entries[name] = place, self.value(child, path)
        for other in merged:
            self._merge(made, self.value(other, made.path))

    def _merge(self, made: Value, other: Value) -> None:
        if other.kind != "map":
            self._fault(other, f"found {other.shown} after <<, expected a mapping")
        for name, value in other.entries.items():
            made.entries.setdefault(name, value)
            made.keys.setdefault(name, other.keys[name])

    def _written(self, text: str) -> str:
        return self._hidden.replace(text, lambda match: match[0])

    def _expanded(self, value: Value, match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match["bad"] is not None:
            self._fault(value, f"found {match['bad']}, expected ${{NAME}} or ${{NAME:-default}}")
            return ""
        found = self._environ.get(name)
        if match["or"] is not None:
            return found or default
        if found is None:
            self._fault(value, f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
        return found or ""

    def _fault(self, value: Value, message: str) -> None:
        value.kind = "bad"
        self._faults.append(Fault(value.line, value.column, value.path, message, self._file))
