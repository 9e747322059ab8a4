"""The repository's own lint: the rules of docs/architecture.md that ruff and mypy do not know.

A rule is a function from sources to problems, each problem a line `file:line: what is wrong and what to do`.
Rules read syntax trees and import nothing, so they see modules that would fail to import. The second half of
this file gives every rule a piece of code that breaks it: a lint that never fires proves nothing.

To add a module to the engine or the server, give it a place in ENGINE_LAYERS or SERVER_LAYERS.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LINE_LENGTH_MAX = 110
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 90

PACKAGES = ("engine", "server", "tools")
"""Lowest first: a package imports itself, those before it, and libraries."""

FOLDERS = (*PACKAGES, "tests", "benchmarks")

ENGINE_LAYERS: tuple[tuple[str, str], ...] = (
    # Lowest first: a module imports from its own layer and those above it in this table, never in a circle.
    # A package stands for its __init__; its modules are listed one by one.
    ("foundations", "errors checksum filenames filesystem findings options metrics columns"),
    ("entries", "entry batch discards"),
    ("storage", "wal logs pile memtable cache segment segment.format segment.block segment.filter"),
    ("segments", "segment.writer segment.reader segment.check"),
    ("structure", "run levels rows layers manifest version invariants"),
    ("upkeep", "compaction compaction.picker compaction.merge compaction.layout compaction.job"),
    ("opening", "recovery opening obsolete resolution staging host planning rewriting sorting"),
    ("processes", "workers worker pool trouble background"),
    (
        "database",
        "forks stalls statistics reading writing snapshot checkpoint check database rebuilding bulk",
    ),
    (
        "repair",
        (
            "repair.report repair.frames repair.salvage repair.logs repair.arrange repair.numbers"
            " repair.rewrite repair.inventory repair.stack repair.swap repair.work repair"
        ),
    ),
    ("door", "__init__ __main__"),
)

SERVER_LAYERS: tuple[tuple[str, str], ...] = (
    # As above, for what is imported when the program runs: client and server know each other's types.
    (
        "foundations",
        (
            "errors version numbers longdouble splitting glob clock events encoding limits gathering names"
            " redaction registry stats slowlog latency lolwut"
        ),
    ),
    (
        "rdb",
        (
            "rdb rdb.errors rdb.opcodes rdb.rules rdb.values rdb.crc64 rdb.lzf rdb.lengths rdb.counting"
            " rdb.source rdb.listpack rdb.ziplist rdb.intset rdb.zipmap rdb.modules rdb.streams rdb.decoding"
            " rdb.listpacking rdb.streampacking rdb.encoding rdb.loading rdb.saving rdb.payload"
        ),
    ),
    ("words", "args replies protocol aclcategories syntaxes keyspecs commanddocs"),
    ("rights", "acl acl.rules acl.selector acl.user acl.access acl.log"),
    ("configuration", "parameters compounds inert settings directives configfile config"),
    ("storage", "store elements records keyspace databases cursors expiry"),
    (
        "types",
        (
            "types types.listkeys types.listpacks types.listelements types.listediting types.lists types.lcs"
            " types.bigstrings types.strings types.sets types.fieldtimes types.hashes types.fieldexpiry"
            " types.zsetorder types.zsets types.zsetranges types.zsetalgebra types.keys types.sorting"
            " types.bitmaps types.bitops types.bitfields types.murmurhash types.hllregisters types.hllsparse"
            " types.hyperloglogs types.geohashes types.geosearch types.streamids types.streamwindows"
            " types.streamentries types.streamgroups types.streams types.streamreading types.streamvalues"
            " memoryusage"
        ),
    ),
    ("exchange", "readahead rdbvalues rdbentries dumping rdbsaving rdbprocess"),
    (
        "clients",
        "client blocking clientlist monitoring tracking pubsub protection acl.userfile acl.users",
    ),
    ("dispatch", "dispatch failures migrating"),
    (
        "scripting",
        (
            "scripting scripting.bytecode scripting.numberwork scripting.flags scripting.execution"
            " scripting.conversion scripting.runtime scripting.libraries scripting.loading scripting.scripts"
            " scripting.calls scripting.yielding scripting.engine"
        ),
    ),
    ("upkeep", "syncing durability checkpointing saving supervision applying cron info debugging"),
    ("server", "server"),
    (
        "commands",
        (
            "commands commands.help commands.acl commands.alike commands.bitmap commands.checkpoint"
            " commands.client commands.client_tracking commands.cluster commands.connection commands.debug"
            " commands.function commands.generic commands.geo_args commands.geo commands.hash"
            " commands.hyperloglog commands.introspection commands.list commands.metrics commands.migration"
            " commands.monitor commands.pubsub commands.replication commands.scripting commands.server"
            " commands.set commands.sort commands.sorted_set commands.sorted_set_args"
            " commands.sorted_set_pops commands.stream_args commands.stream commands.stream_group"
            " commands.stream_info commands.stream_read commands.string commands.transactions"
            " commands.waiting"
        ),
    ),
    ("network", "connection sockets listening commandpage configurationpage"),
    ("door", "__init__"),
)

FILESYSTEM_MODULE = "lamina.engine.filesystem"
PIPE_MODULES = ("lamina.engine.worker", "lamina.engine.workers")

OS_FILE_NAMES = frozenset(
    "chmod copy_file_range fdatasync fsync ftruncate link listdir lstat makedirs mkdir mkfifo open"
    " posix_fallocate pread preadv pwrite pwritev readlink remove removedirs rename renames replace rmdir"
    " scandir sendfile stat statvfs symlink sync truncate unlink utime walk".split()
)
OS_PATH_NAMES = frozenset(
    "exists getatime getctime getmtime getsize isdir isfile islink lexists samefile".split()
)
OS_PIPE_NAMES = frozenset("close dup dup2 fdopen pipe pipe2 read readv set_blocking write writev".split())
FILE_MODULES = frozenset("fcntl fileinput glob io mmap pathlib shutil tempfile".split())
PROCESS_MODULES = frozenset("multiprocessing selectors subprocess".split())

LONG_FUNCTIONS: dict[str, str] = {
    # "engine/compaction/merge.py:merge": "why it is not taken apart, and the benchmark that shows it",
}
LONG_FILES: dict[str, str] = {
    # "engine/database.py": "why it is not taken apart",
}


@dataclasses.dataclass(frozen=True)
class Source:
    """One Python file: its path from the root, the name lamina imports it under (or ""), its content."""

    path: str
    module: str
    text: str
    tree: ast.Module

    @staticmethod
    def parse(path: str, text: str) -> Source:
        return Source(path, _module_name(path), text, ast.parse(text, path))

    @property
    def package(self) -> str:
        """The name of the top-level folder."""
        return self.path.split("/")[0]

    @property
    def is_init(self) -> bool:
        return self.path.endswith("/__init__.py")

    def at(self, node: ast.AST | int, problem: str) -> str:
        """Return `problem` with its place."""
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return f"{self.path}:{line}: {problem}"


def _module_name(path: str) -> str:
    parts = path.removesuffix(".py").split("/")
    if parts[0] not in PACKAGES:
        return ""
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(["lamina", *parts])


@functools.cache
def repository() -> tuple[Source, ...]:
    """Return every Python file of the repository."""
    paths = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return tuple(Source.parse(p.relative_to(ROOT).as_posix(), p.read_text("utf-8")) for p in paths)


def in_lamina(sources: Iterable[Source]) -> Iterator[Source]:
    return (source for source in sources if source.module)


def in_engine(sources: Iterable[Source]) -> Iterator[Source]:
    return (source for source in sources if source.package == "engine")


# --- Imports


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported module: `from lamina.engine.wal import WalReader` has the target lamina.engine.wal."""

    source: Source
    node: ast.Import | ast.ImportFrom
    target: str
    is_for_types: bool = False
    """Whether only type checkers follow it."""


def imports_of(source: Source, modules: frozenset[str]) -> Iterator[Import]:
    """Yield what `source` imports, anywhere in the file. `modules` tells modules from names inside them."""
    for_types = {
        inner
        for node in ast.walk(source.tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(source, node, alias.name, node in for_types)
        elif isinstance(node, ast.ImportFrom):
            base = _import_base(source, node)
            names = [f"{base}.{alias.name}" for alias in node.names]
            for target in dict.fromkeys(name if name in modules else base for name in names):
                yield Import(source, node, target, node in for_types)


def _import_base(source: Source, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    parts = source.module.split(".") if source.module else [source.package]
    parts = parts[: len(parts) - node.level + source.is_init]
    return ".".join([*parts, node.module] if node.module else parts)


def modules_of(sources: Iterable[Source]) -> frozenset[str]:
    return frozenset(source.module for source in in_lamina(sources))


def lamina_imports(sources: tuple[Source, ...]) -> Iterator[Import]:
    """Yield the imports between lamina's own modules."""
    modules = modules_of(sources)
    for source in in_lamina(sources):
        for found in imports_of(source, modules):
            if found.target == "lamina" or found.target.startswith("lamina."):
                yield found


def rule_packages_import_downwards(sources: tuple[Source, ...]) -> Iterator[str]:
    """tools -> server -> engine -> libraries."""
    for found in lamina_imports(sources):
        target = (found.target.split(".") + [""])[1]
        if target not in PACKAGES:
            yield found.source.at(
                found.node, f"{found.target} is no package: import lamina.engine or the like"
            )
        elif PACKAGES.index(target) > PACKAGES.index(found.source.package):
            yield found.source.at(found.node, f"{found.source.package} must not import {found.target}")


Layers = tuple[tuple[str, str], ...]


def ranks_of(package: str, layers: Layers) -> dict[str, int]:
    """Return the place of each module of a package in its table of layers, by its full name."""
    ranks = {
        f"lamina.{package}.{name}": rank for rank, (_, names) in enumerate(layers) for name in names.split()
    }
    ranks[f"lamina.{package}"] = ranks.pop(f"lamina.{package}.__init__")
    return ranks


def _imports_downwards(
    sources: tuple[Source, ...], package: str, table: str, layers: Layers
) -> Iterator[str]:
    ranks = ranks_of(package, layers)
    for source in sources:
        if source.module and source.package == package and source.module not in ranks:
            yield source.at(1, f"{source.module} has no place in {table} of tests/test_tidy.py")
    for found in lamina_imports(sources):
        here, there = ranks.get(found.source.module), ranks.get(found.target)
        if here is not None and there is not None and there > here and not found.is_for_types:
            (upper, _), (lower, _) = layers[there], layers[here]
            yield found.source.at(found.node, f"layer {lower!r} must not import {found.target} of {upper!r}")


def rule_engine_imports_downwards(sources: tuple[Source, ...]) -> Iterator[str]:
    """Each engine module imports from its own layer and lower ones only."""
    return _imports_downwards(sources, "engine", "ENGINE_LAYERS", ENGINE_LAYERS)


def rule_server_imports_downwards(sources: tuple[Source, ...]) -> Iterator[str]:
    """Each server module imports from its own layer and lower ones only."""
    return _imports_downwards(sources, "server", "SERVER_LAYERS", SERVER_LAYERS)


def rule_data_knows_no_network(sources: tuple[Source, ...]) -> Iterator[str]:
    """Types and commands see neither the event loop nor the wire."""
    for source in sources:
        if not source.module.startswith(("lamina.server.types", "lamina.server.commands")):
            continue
        for node in ast.walk(source.tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                if name.split(".")[0] in ("asyncio", "socket", "uvloop") or name == "lamina.server.protocol":
                    yield source.at(node, f"import of {name}: that is the connection's business")


def rule_no_import_cycles(sources: tuple[Source, ...]) -> Iterator[str]:
    """No module imports itself, however long the way. Imports that only type checkers follow do not count."""
    edges: dict[str, dict[str, Import]] = {source.module: {} for source in in_lamina(sources)}
    for found in lamina_imports(sources):
        if found.target in edges and not found.is_for_types:
            edges[found.source.module].setdefault(found.target, found)
    done: set[str] = set()
    for start in edges:
        cycle = _find_cycle(edges, start, [], done)
        if cycle:
            found = edges[cycle[0]][cycle[1]]
            yield found.source.at(found.node, "import cycle: " + " -> ".join(cycle))


def _find_cycle(
    edges: dict[str, dict[str, Import]], module: str, path: list[str], done: set[str]
) -> list[str] | None:
    """Return the first cycle met walking from `module`; modules in `done` lead to none that is new."""
    if module in path:
        return [*path[path.index(module) :], module]
    if module in done:
        return None
    for target in edges[module]:
        cycle = _find_cycle(edges, target, [*path, module], done)
        if cycle:
            done.update(cycle)
            return cycle
    done.add(module)
    return None


def rule_no_imports_inside_functions(sources: tuple[Source, ...]) -> Iterator[str]:
    for source in in_lamina(sources):
        for function in functions_of(source.tree):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield source.at(node, f"import inside {function.name}(): move it to the top of the file")


def rule_full_import_names(sources: tuple[Source, ...]) -> Iterator[str]:
    """`import engine` would make a second copy of every class beside those of `lamina.engine`."""
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ImportFrom) and node.level and source.module:
                yield source.at(node, "relative import: write lamina.<package>.<module>")
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield from _bare_names(source, node, [node.module or ""])
            elif isinstance(node, ast.Import):
                yield from _bare_names(source, node, [alias.name for alias in node.names])


def _bare_names(source: Source, node: ast.AST, names: list[str]) -> Iterator[str]:
    for name in names:
        if name.split(".")[0] in PACKAGES:
            yield source.at(node, f"import of {name!r} by its bare name: write lamina.{name}")


# --- Texts


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_of(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def has_docstring(node: ast.Module | ast.ClassDef | Function) -> bool:
    return bool(ast.get_docstring(node))


def rule_modules_have_docstrings(sources: tuple[Source, ...]) -> Iterator[str]:
    for source in sources:
        if source.text.strip() and not has_docstring(source.tree):
            yield source.at(1, "no module docstring: say what the module is and who may call it")


def rule_public_names_have_docstrings(sources: tuple[Source, ...]) -> Iterator[str]:
    """Functions and classes of the engine; methods too, of the classes its `__all__` hands out."""
    exported = {
        name for source in sources if source.path == "engine/__init__.py" for name in all_names(source)
    }
    for source in in_engine(sources):
        for node in source.tree.body:
            if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
                continue
            if not has_docstring(node):
                yield source.at(node, f"{node.name} is public and has no docstring")
            if isinstance(node, ast.ClassDef) and node.name in exported:
                for method in node.body:
                    if isinstance(method, Function) and needs_docstring(method):
                        yield source.at(method, f"{node.name}.{method.name} is public and has no docstring")


def needs_docstring(method: Function) -> bool:
    """Tell whether a method lacks one: neither private or special nor one of several overloads."""
    is_overload = any(ast.unparse(decorator).endswith("overload") for decorator in method.decorator_list)
    return not (method.name.startswith("_") or is_overload or has_docstring(method))


def all_names(source: Source) -> list[str]:
    """Return the strings of `__all__`."""
    for node in source.tree.body:
        if isinstance(node, ast.Assign) and "__all__" in [getattr(t, "id", "") for t in node.targets]:
            return [str(c.value) for c in ast.walk(node.value) if isinstance(c, ast.Constant)]
    return []


def rule_short_lines(sources: tuple[Source, ...]) -> Iterator[str]:
    for source in sources:
        for number, line in enumerate(source.text.splitlines(), 1):
            if len(line) > LINE_LENGTH_MAX:
                yield source.at(number, f"{len(line)} characters; at most {LINE_LENGTH_MAX}")


def rule_short_files(sources: tuple[Source, ...]) -> Iterator[str]:
    for source in in_lamina(sources):
        lines = len(source.text.splitlines())
        if lines > FILE_LINES_MAX and source.path not in LONG_FILES:
            yield source.at(lines, f"{lines} lines; at most {FILE_LINES_MAX}: one noun per file")


def rule_short_functions(sources: tuple[Source, ...]) -> Iterator[str]:
    for source in in_lamina(sources):
        for function in functions_of(source.tree):
            lines = function_lines(function)
            if lines > FUNCTION_LINES_MAX and f"{source.path}:{function.name}" not in LONG_FUNCTIONS:
                yield source.at(
                    function, f"{function.name}() has {lines} lines; at most {FUNCTION_LINES_MAX}"
                )


def function_lines(function: Function) -> int:
    """Return the lines of a function from `def` on, its docstring not counted."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if has_docstring(function):
        docstring = function.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


LEFTOVER = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)) + r")\b")


def rule_no_leftovers(sources: tuple[Source, ...]) -> Iterator[str]:
    for source in sources:
        for number, line in enumerate(source.text.splitlines(), 1):
            if match := LEFTOVER.search(line):
                yield source.at(number, f"leftover {match[0]}: do it, or write it down where plans are kept")


# --- Calls


def rule_no_prints(sources: tuple[Source, ...]) -> Iterator[str]:
    for source in in_engine(sources):
        if source.path.endswith("/__main__.py"):
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield source.at(node, "print() in the engine: return it, raise it or count it in metrics")


def rule_one_door_to_the_file_system(sources: tuple[Source, ...]) -> Iterator[str]:
    """Only engine/filesystem.py touches files, so that tests can put one that fails in its stead.

    The two ends of the worker's pipe may also read and write descriptors and start processes.
    """
    for source in in_engine(sources):
        if source.module == FILESYSTEM_MODULE:
            continue
        os_names, modules = OS_FILE_NAMES, FILE_MODULES
        if source.module not in PIPE_MODULES:
            os_names, modules = os_names | OS_PIPE_NAMES, modules | PROCESS_MODULES
        for node, name in _file_names(source, os_names, modules):
            yield source.at(node, f"{name} outside engine/filesystem.py: go through a FileSystem")


def _file_names(
    source: Source, os_names: frozenset[str], modules: frozenset[str]
) -> Iterator[tuple[ast.AST, str]]:
    own_open = any(isinstance(node, Function) and node.name == "open" for node in source.tree.body)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] in modules]
            yield from ((node, f"import {name}") for name in names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            base = node.module or ""
            for alias in node.names:
                own_open |= (alias.asname or alias.name) == "open" and base.startswith("lamina.")
                banned = base in ("os", "os.path") and alias.name in os_names | OS_PATH_NAMES
                if banned or base.split(".")[0] in modules:
                    yield node, f"from {base} import {alias.name}"
        elif isinstance(node, ast.Attribute):
            dotted = ast.unparse(node) if isinstance(node.value, ast.Name | ast.Attribute) else ""
            is_os_path = dotted.startswith("os.path.") and node.attr in OS_PATH_NAMES
            if is_os_path or (dotted == f"os.{node.attr}" and node.attr in os_names):
                yield node, dotted
    for node in ast.walk(source.tree):
        if (
            isinstance(node, ast.Name)
            and node.id == "open"
            and isinstance(node.ctx, ast.Load)
            and not own_open
        ):
            yield node, "open()"


# --- The repository against its rules


Rule = Callable[[tuple[Source, ...]], Iterator[str]]

RULES: tuple[Rule, ...] = (
    rule_packages_import_downwards,
    rule_engine_imports_downwards,
    rule_server_imports_downwards,
    rule_data_knows_no_network,
    rule_no_import_cycles,
    rule_no_imports_inside_functions,
    rule_full_import_names,
    rule_modules_have_docstrings,
    rule_public_names_have_docstrings,
    rule_short_lines,
    rule_short_files,
    rule_short_functions,
    rule_no_leftovers,
    rule_no_prints,
    rule_one_door_to_the_file_system,
)


def rule_name(rule: Rule) -> str:
    return rule.__name__.removeprefix("rule_")


@pytest.mark.parametrize("rule", RULES, ids=rule_name)
def test_repository_keeps(rule: Rule) -> None:
    problems = list(rule(repository()))
    if problems:
        pytest.fail(f"{rule_name(rule)}: {len(problems)} found\n" + "\n".join(problems), pytrace=False)


def test_the_repository_was_found() -> None:
    assert "engine/errors.py" in [source.path for source in repository()]


def test_named_exceptions_are_still_needed() -> None:
    stale = set(LONG_FUNCTIONS) | set(LONG_FILES)
    for source in repository():
        if len(source.text.splitlines()) > FILE_LINES_MAX:
            stale.discard(source.path)
        for function in functions_of(source.tree):
            if function_lines(function) > FUNCTION_LINES_MAX:
                stale.discard(f"{source.path}:{function.name}")
    assert not stale, "remove from the tables of exceptions"


# --- The rules against code that breaks them


DOOR = """\
__all__ = ["Door"]
class Door:
    "A door."
    def knock(self): ...
    def __len__(self): ...
    @overload
    def ring(self): ...
"""

CASES: dict[Rule, tuple[tuple[str, str, str], ...]] = {
    # rule: (path, text that breaks it, part of the problem expected; "" where the text is fine)
    rule_packages_import_downwards: (
        ("engine/a.py", "import lamina.server.registry", "engine/a.py:1: engine must not import"),
        ("server/a.py", "from lamina.tools import cli", "server must not import lamina.tools"),
        ("server/a.py", "from lamina.nowhere import b", "lamina.nowhere is no package"),
        ("tools/a.py", "from lamina.server import b\nimport lamina.engine", ""),
    ),
    rule_engine_imports_downwards: (
        ("engine/surprise.py", "", "no place in ENGINE_LAYERS"),
        ("engine/errors.py", "import lamina.engine.wal", "layer 'foundations' must not import"),
        ("engine/wal.py", "import lamina.engine", "must not import lamina.engine of 'door'"),
        ("engine/wal.py", "from lamina.engine.errors import EngineError", ""),
    ),
    rule_server_imports_downwards: (
        ("server/surprise.py", "", "no place in SERVER_LAYERS"),
        ("server/keyspace.py", "import lamina.server.dispatch", "layer 'storage' must not import"),
        (
            "server/client.py",
            "if TYPE_CHECKING:\n    from lamina.server.server import Server",
            "",
        ),
        ("server/keyspace.py", "from lamina.server.errors import SYNTAX", ""),
    ),
    rule_data_knows_no_network: (
        ("server/types/sets.py", "import asyncio", "that is the connection's business"),
        ("server/commands/set.py", "from lamina.server.protocol import RequestReader", "import of"),
        ("server/connection.py", "import asyncio", ""),
        ("server/types/sets.py", "import random", ""),
    ),
    rule_no_import_cycles: (
        ("engine/wal.py", "from lamina.engine.wal import g", "import cycle: lamina.engine.wal -> "),
        ("engine/wal.py", "from lamina.engine.entry import g", ""),
    ),
    rule_no_imports_inside_functions: (
        ("engine/wal.py", "def f():\n    import os", "engine/wal.py:2: import inside f()"),
        ("tests/engine/test_wal.py", "def f():\n    import os", ""),
    ),
    rule_full_import_names: (
        ("tests/engine/test_wal.py", "import engine.wal", "write lamina.engine.wal"),
        ("benchmarks/a.py", "from tools import cli", "write lamina.tools"),
        ("engine/wal.py", "from . import errors", "relative import"),
        ("tests/a.py", "import lamina.engine\nimport enginery", ""),
    ),
    rule_modules_have_docstrings: (
        ("engine/wal.py", "import os", "no module docstring"),
        ("tests/engine/__init__.py", "", ""),
    ),
    rule_public_names_have_docstrings: (
        ("engine/wal.py", "def append(): ...", "append is public"),
        ("engine/wal.py", "class Wal: ...", "Wal is public"),
        ("engine/wal.py", "def _append(): ...", ""),
        ("engine/__init__.py", DOOR, "engine/__init__.py:4: Door.knock is public"),
    ),
    rule_short_lines: (
        ("tests/a.py", "#" * 111, "111 characters"),
        ("tests/a.py", "#" * 110, ""),
    ),
    rule_short_files: (
        ("engine/a.py", "\n" * 601, "601 lines"),
        ("tests/a.py", "\n" * 601, ""),
    ),
    rule_short_functions: (
        ("engine/a.py", "def f():\n" + "    pass\n" * 90, "f() has 91 lines"),
        ("engine/a.py", "def f():\n    'doc'\n" + "    pass\n" * 89, ""),
    ),
    rule_no_leftovers: (
        ("tests/a.py", "x = 1  # TO" + "DO later", "tests/a.py:1: leftover"),
        ("tests/a.py", "x = 1  # mastodon", ""),
    ),
    rule_no_prints: (
        ("engine/wal.py", "print(1)", "print() in the engine"),
        ("engine/__main__.py", "print(1)", ""),
    ),
    rule_one_door_to_the_file_system: (
        ("engine/wal.py", "import os\nos.fsync(3)", "engine/wal.py:2: os.fsync outside"),
        ("engine/wal.py", "write = os.write", "os.write outside"),
        ("engine/worker.py", "write = os.write", ""),
        ("engine/worker.py", "os.rename(a, b)", "os.rename outside"),
        ("engine/wal.py", "os.path.exists(a)", "os.path.exists outside"),
        ("engine/wal.py", "os.path.join(a, b)", ""),
        ("engine/wal.py", "from os import fsync", "from os import fsync outside"),
        ("engine/wal.py", "import shutil", "import shutil outside"),
        ("engine/wal.py", "import subprocess", "import subprocess outside"),
        ("engine/wal.py", "with open(a) as f: pass", "open() outside"),
        ("engine/database.py", "def open(): ...\nopen()", ""),
        ("engine/filesystem.py", "os.fsync(open(a))", ""),
    ),
}


@pytest.mark.parametrize("rule", RULES, ids=rule_name)
def test_rule_finds_breaches_and_nothing_else(rule: Rule) -> None:
    for path, text, expected in CASES[rule]:
        problems = list(rule((Source.parse(path, text),)))
        if expected:
            assert len(problems) == 1, (path, text)
            assert expected in problems[0]
        else:
            assert problems == [], (path, text)
    assert any(expected for _, _, expected in CASES[rule])


def test_a_long_import_cycle_is_found_once() -> None:
    names = ("run", "levels", "manifest")
    sources = tuple(
        Source.parse(f"engine/{name}.py", f"from lamina.engine import {names[(i + 1) % 3]}")
        for i, name in enumerate(names)
    )
    (problem,) = rule_no_import_cycles(sources)
    circle = " -> ".join(f"lamina.engine.{name}" for name in (*names, "run"))
    assert problem == f"engine/run.py:1: import cycle: {circle}"
