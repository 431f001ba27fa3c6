"""Who may import whom (docs/architecture.md): the table, and the reader that holds the code against it.

Run as a program it prints every violation and exits 1 when there is one. It
parses files and never imports them, so it sees imports inside functions, under
``TYPE_CHECKING`` and in ``importlib.import_module("literal")`` as well.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = {"hypha_rpc": "hypha_rpc", "hypha": "server/hypha"}

# What makes a result depend on more than its arguments. Pure rooms take time, ids and limits as arguments.
IMPURE = frozenset(
    {
        *("asyncio", "concurrent", "selectors", "socket", "ssl", "threading"),
        *("datetime", "logging", "os", "random", "secrets", "time", "uuid"),
    }
)
HOST = frozenset({"js", "pyodide", "pyodide_js"})  # modules that only exist inside Pyodide


@dataclass(frozen=True)
class Room:
    """What the modules below one name may import.

    Attributes:
        name: module prefix; of several that match a module the longest counts.
        first_party: prefixes of our own modules it may import, besides itself.
            A prefix ending in ``!`` means that module alone, not what is below it.
        libraries: other distributions it may import, anywhere in a module.
        lazy: those it may import only inside a function or under TYPE_CHECKING.
        pure: none of `IMPURE` may be imported.
    """

    name: str
    first_party: tuple[str, ...] = ()
    libraries: frozenset[str] = frozenset()
    lazy: frozenset[str] = frozenset()
    pure: bool = False


def room(name: str, first_party: str = "", *, libraries: str = "", lazy: str = "", pure: bool = False) -> Room:
    """A row of the table; lists are words."""
    return Room(name, tuple(first_party.split()), frozenset(libraries.split()), frozenset(lazy.split()), pure)


# Groups that appear in many rows.
GROUND = "hypha_rpc.errors hypha_rpc.addresses hypha_rpc.objects hypha_rpc._version"
ENDPOINT = f"{GROUND} hypha_rpc.wire hypha_rpc.endpoint"
CLIENT = f"{ENDPOINT} hypha_rpc.transports hypha_rpc.client"
SDK = "hypha_rpc"
SERVER = "hypha"

TABLE = (
    # --- the SDK, from the ground up -------------------------------------------------------------------------------
    room("hypha_rpc._version", pure=True),
    room("hypha_rpc.errors", pure=True),
    room("hypha_rpc.addresses", "hypha_rpc.errors", pure=True),
    room("hypha_rpc.objects", pure=True),
    room("hypha_rpc.wire", GROUND, libraries="msgpack", lazy="numpy pydantic pydantic_core nacl", pure=True),
    room("hypha_rpc.endpoint", f"{GROUND} hypha_rpc.wire", pure=True),
    # Memory and files for what arrives in pieces: for the drivers of endpoints, here and in the server.
    room("hypha_rpc.areas", "hypha_rpc.errors hypha_rpc.endpoint"),
    room("hypha_rpc.transports", f"{GROUND} hypha_rpc.wire", lazy="python_socks aiortc wrtc"),
    # The two engines are modules of their own, imported by their connector at the first connect.
    room("hypha_rpc.transports.picows_transport", f"{GROUND} hypha_rpc.transports", libraries="picows"),
    room("hypha_rpc.transports.websockets_transport", f"{GROUND} hypha_rpc.transports", libraries="websockets"),
    # The one module that knows the HTTP library, loads it at the first connect.
    room("hypha_rpc.transports.http", f"{GROUND} hypha_rpc.transports", lazy="httpx2"),
    room("hypha_rpc.schemas", f"{GROUND} hypha_rpc.endpoint"),
    room("hypha_rpc.case", pure=True),
    room(
        "hypha_rpc.client",
        f"{CLIENT} hypha_rpc.schemas hypha_rpc.areas",
        libraries="shortuuid",
        lazy="dotenv httpx2 pydantic numpy nacl",
    ),
    room("hypha_rpc.client.runner", f"{ENDPOINT} hypha_rpc.client.serving"),
    room("hypha_rpc.client.serving", ENDPOINT),
    room("hypha_rpc.client.ticker"),
    room(
        "hypha_rpc.utils",
        f"{CLIENT} hypha_rpc.schemas hypha_rpc.case",
        lazy="httpx2 pydantic numpy dotenv starlette uvicorn mcp zarr tqdm",
    ),
    room("hypha_rpc.sync", f"{CLIENT} hypha_rpc.utils"),
    room("hypha_rpc.exporting", f"{CLIENT} hypha_rpc.sync"),
    room("hypha_rpc.testing", f"{CLIENT} hypha_rpc.sync"),
    # The package itself hands out names of all rooms, lazily.
    room("hypha_rpc", SDK),
    # Import paths of existing programs; nothing but imports in them (test_imports.py).
    room("hypha_rpc.rpc", SDK),
    room("hypha_rpc.websocket_client", SDK),
    room("hypha_rpc.http_client", SDK),
    room("hypha_rpc.webrtc_client", SDK),
    room("hypha_rpc.crypto", SDK),
    room("hypha_rpc.pyodide_websocket", SDK),
    # --- the server, from the ground up ----------------------------------------------------------------------------
    room("hypha._version", "hypha_rpc._version"),
    room("hypha.settings", GROUND),
    # Every room reports to it; it knows none.
    room("hypha.audit", "hypha.settings"),
    room("hypha.store", f"{GROUND} hypha.settings", lazy="redis"),
    room("hypha.broker", f"{GROUND} hypha_rpc.wire hypha.settings hypha.audit", libraries="msgpack", lazy="redis"),
    room("hypha.auth", f"{GROUND} hypha.settings hypha.audit hypha.store", libraries="joserfc", lazy="authlib argon2"),
    room(
        "hypha.doors",
        f"{GROUND} hypha_rpc.wire hypha.settings hypha.audit hypha.broker hypha.auth",
        libraries="starlette uvicorn picows msgpack",
        lazy="httptools",
    ),
    # The door inside the process speaks to the memory transport of the SDK.
    room(
        "hypha.doors.inproc",
        f"{GROUND} hypha_rpc.wire hypha_rpc.transports hypha.doors hypha.settings hypha.broker hypha.auth",
    ),
    room("hypha.login", f"{GROUND} hypha.settings hypha.audit hypha.store hypha.auth"),
    # Services of the server itself: a real client, which comes in by the door inside the process.
    room("hypha.residents", f"{CLIENT} {SDK}! hypha.doors hypha.auth"),
    # The gateway serves the functions that HTTP calls bring along as users' functions are served.
    room(
        "hypha.gateway",
        f"{ENDPOINT} hypha_rpc.areas hypha_rpc.client.runner hypha_rpc.client.ticker"
        " hypha.settings hypha.broker hypha.auth",
    ),
    # The manager's methods run as users' functions do, by the same runner, and show the same schemas.
    room(
        "hypha.manager",
        f"{ENDPOINT} hypha_rpc.areas hypha_rpc.schemas hypha_rpc.case"
        " hypha_rpc.client.runner hypha_rpc.client.ticker"
        " hypha.settings hypha.audit hypha.broker hypha.auth hypha.store",
        libraries="msgpack",
    ),
    room(
        "hypha.web",
        f"{ENDPOINT} hypha.settings hypha.audit hypha.store"
        " hypha.broker hypha.auth hypha.doors hypha.gateway hypha.manager",
        libraries="starlette msgpack",
        lazy="prometheus_client",
    ),
    room("hypha.apps", f"{CLIENT} hypha.settings hypha.store hypha.auth hypha.manager", lazy="playwright"),
    # Start-up functions get a real client, which comes in by the door inside the process.
    room("hypha.startup", f"{CLIENT} {SDK}! hypha.settings hypha.doors hypha.auth"),
    room("hypha.cli", f"{GROUND} hypha.settings hypha.auth hypha.store", libraries="cyclopts dotenv"),
    # What puts the rooms together may know them all; so may the helpers beside it.
    room("hypha.app", f"{SERVER} {SDK}", libraries="starlette"),
    room("hypha.serving", f"{SERVER} {SDK}", libraries="uvicorn"),
    room("hypha.hosted", f"{SERVER} {SDK}"),
    room("hypha.server", f"{SERVER} {SDK}", lazy="uvloop"),
    # Import paths of operators' modules.
    room("hypha.core", "hypha.auth"),
    room("hypha.launch", f"{SERVER} {SDK}"),
    room("hypha.utils", f"{SERVER} {SDK}"),
    room("hypha.testing", f"{SERVER} {SDK}", lazy="uvicorn"),
    room("hypha.__main__", SERVER),
    room("hypha", f"{SERVER} hypha_rpc._version"),
)
# Names that stand for exactly one module: what lies below them needs a row of its own.
PACKAGES_ALONE = frozenset({"hypha_rpc", "hypha"})


@dataclass(frozen=True)
class Import:
    """One imported module, as a module of the tree wrote it."""

    line: int
    target: str
    lazy: bool


def modules(repository: Path) -> dict[str, Path]:
    """Every module of both packages: dotted name -> file."""
    found: dict[str, Path] = {}
    for package, folder in ROOTS.items():
        base = repository / folder
        for path in sorted(base.rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = path
    return found


class _Reader(ast.NodeVisitor):
    """Collects the imports of one module."""

    def __init__(self, module: str, is_package: bool, known: Iterable[str]) -> None:
        self._package = module if is_package else module.rpartition(".")[0]
        self._known = frozenset(known)
        self._depth = 0
        self.imports: list[Import] = []

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(node.lineno, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            above = self._package.split(".")[: len(self._package.split(".")) - node.level + 1]
            base = ".".join([*above, base] if base else above)
        for alias in node.names:
            # `from package import module` imports the module, `from module import name` does not.
            inner = f"{base}.{alias.name}"
            self._add(node.lineno, inner if inner in self._known else base)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        argument = node.args[0] if node.args else None
        literal = isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        if function in ("import_module", "__import__") and literal and not str(argument.value).startswith("."):
            self._add(node.lineno, str(argument.value))
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" in ast.unparse(node.test):
            self._inside(node.body)
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._inside([node])

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._inside([node])

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._inside([node])

    def _inside(self, nodes: Iterable[ast.AST]) -> None:
        self._depth += 1
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                self.generic_visit(node)
            else:
                self.visit(node)
        self._depth -= 1

    def _add(self, line: int, target: str) -> None:
        self.imports.append(Import(line, target, lazy=self._depth > 0))


def imports_of(module: str, path: Path, known: Iterable[str]) -> list[Import]:
    """Every import in the file of *module*, resolved to absolute names."""
    reader = _Reader(module, path.name == "__init__.py", known)
    reader.visit(ast.parse(path.read_text("utf-8"), str(path)))
    return reader.imports


def _covers(prefix: str, module: str) -> bool:
    if prefix.endswith("!"):
        return module == prefix[:-1]
    return module == prefix or module.startswith(f"{prefix}.")


def room_of(module: str) -> Room | None:
    """The row for *module*, or None when nobody has said what it may import."""
    matching = [row for row in TABLE if _covers(f"{row.name}!" if row.name in PACKAGES_ALONE else row.name, module)]
    return max(matching, key=lambda row: len(row.name), default=None)


def _fault(row: Room, found: Import) -> str | None:
    """What is wrong with one import of a module in *row*."""
    top = found.target.partition(".")[0]
    if top in ROOTS:
        if any(_covers(prefix, found.target) for prefix in (row.name, *row.first_party)):
            return None
        return f"{row.name} may not import {found.target}"
    if row.pure and top in IMPURE:
        return f"{row.name} is pure and may not import {found.target}"
    if top in sys.stdlib_module_names or top in HOST or top in row.libraries:
        return None
    if top in row.lazy:
        return None if found.lazy else f"{row.name} may import {found.target} only inside functions"
    return f"{row.name} may not import the library {top}"


def _faults_of(module: str, path: Path, known: Iterable[str]) -> Iterator[tuple[int, str]]:
    row = room_of(module)
    if row is None:
        yield 1, f"{module} has no row in the table of tests/house/import_rules.py"
        return
    for found in imports_of(module, path, known):
        fault = _fault(row, found)
        if fault is not None:
            yield found.line, fault


def violations(repository: Path) -> list[str]:
    """Every breach of the table below *repository*, as ``file:line: what is wrong``."""
    tree = modules(repository)
    found = (
        f"{path.relative_to(repository)}:{line}: {fault}"
        for module, path in tree.items()
        for line, fault in _faults_of(module, path, tree)
    )
    # `from x import a, b` is two imports of x, and one breach.
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    breaches = violations(REPOSITORY)
    print("\n".join(breaches) or f"{len(modules(REPOSITORY))} modules keep the import rules")
    sys.exit(1 if breaches else 0)
