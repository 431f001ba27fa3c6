"""The rooms import downwards only (docs/architecture.md §3)."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.house import import_rules

if TYPE_CHECKING:
    from pathlib import Path

COMPATIBILITY_MODULES = (
    "rpc",
    "websocket_client",
    "http_client",
    "webrtc_client",
    "crypto",
    "pyodide_websocket",
)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root


def test_the_code_keeps_the_table() -> None:
    assert import_rules.modules(import_rules.REPOSITORY), "no module was found"
    assert import_rules.violations(import_rules.REPOSITORY) == []


def test_every_row_names_rooms_of_the_table() -> None:
    names = {row.name for row in import_rules.TABLE}
    assert len(names) == len(import_rules.TABLE), "a room has two rows"
    mentioned = {prefix.rstrip("!") for row in import_rules.TABLE for prefix in row.first_party}
    assert mentioned <= names


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        # upward, in every way of writing it
        ("hypha_rpc/wire/a.py", "import hypha_rpc.endpoint", "hypha_rpc.wire may not import hypha_rpc.endpoint"),
        ("hypha_rpc/wire/a.py", "from hypha_rpc import client", "hypha_rpc.wire may not import hypha_rpc.client"),
        ("hypha_rpc/wire/forms/a.py", "from ...client import x", "hypha_rpc.wire may not import hypha_rpc.client"),
        ("hypha_rpc/wire/__init__.py", "from ..client import x", "hypha_rpc.wire may not import hypha_rpc.client"),
        ("hypha_rpc/wire/a.py", "from hypha_rpc import connect_to_server", "may not import hypha_rpc"),
        ("hypha_rpc/wire/a.py", "def f():\n    import hypha_rpc.client", "may not import hypha_rpc.client"),
        (
            "hypha_rpc/wire/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import hypha_rpc.client",
            "may not import hypha_rpc.client",
        ),
        ("hypha_rpc/wire/a.py", "import importlib\nimportlib.import_module('hypha_rpc.client')", "hypha_rpc.client"),
        ("hypha_rpc/transports/a.py", "import hypha_rpc.client.link", "may not import hypha_rpc.client.link"),
        ("hypha_rpc/transports/a.py", "import hypha_rpc.endpoint", "may not import hypha_rpc.endpoint"),
        ("hypha_rpc/client/a.py", "import hypha_rpc.sync", "may not import hypha_rpc.sync"),
        # the SDK does not know the server
        ("hypha_rpc/client/a.py", "import hypha.server", "may not import hypha.server"),
        ("hypha_rpc/__init__.py", "import hypha", "may not import hypha"),
        # pure rooms
        ("hypha_rpc/wire/a.py", "import asyncio", "hypha_rpc.wire is pure and may not import asyncio"),
        ("hypha_rpc/endpoint/a.py", "def f():\n    import time", "hypha_rpc.endpoint is pure and may not import time"),
        ("hypha_rpc/endpoint/a.py", "from logging import getLogger", "pure and may not import logging"),
        # libraries
        ("hypha_rpc/wire/a.py", "import numpy as np", "may import numpy only inside functions"),
        ("hypha_rpc/endpoint/a.py", "import msgpack", "may not import the library msgpack"),
        (
            "hypha_rpc/transports/http.py",
            "try:\n    import httpx2\nexcept ImportError:\n    raise",
            "only inside functions",
        ),
        # the server
        ("server/hypha/broker/a.py", "import hypha_rpc.endpoint", "hypha.broker may not import hypha_rpc.endpoint"),
        ("server/hypha/broker/a.py", "import hypha.auth", "hypha.broker may not import hypha.auth"),
        ("server/hypha/doors/a.py", "import hypha.web", "hypha.doors may not import hypha.web"),
        ("server/hypha/doors/a.py", "import hypha_rpc.transports", "hypha.doors may not import hypha_rpc.transports"),
        ("server/hypha/manager/a.py", "import hypha_rpc.client", "hypha.manager may not import hypha_rpc.client"),
        ("server/hypha/manager/a.py", "import hypha.web", "hypha.manager may not import hypha.web"),
        ("server/hypha/web/a.py", "import hypha.server", "hypha.web may not import hypha.server"),
        # a module nobody has placed
        ("hypha_rpc/attic.py", "", "hypha_rpc.attic has no row in the table"),
        ("server/hypha/attic/a.py", "", "hypha.attic.a has no row in the table"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, file: str, source: str, fault: str) -> None:
    known = {"hypha_rpc/__init__.py": "", "hypha_rpc/client/__init__.py": "", "hypha_rpc/endpoint/__init__.py": ""}
    found = import_rules.violations(write(tmp_path, known | {file: source}))
    assert len(found) == 1
    assert found[0].startswith(f"{file}:")
    assert fault in found[0]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("hypha_rpc/wire/a.py", "import struct\nimport msgpack\nfrom hypha_rpc.errors import HyphaError"),
        ("hypha_rpc/wire/forms/a.py", "from . import b\nfrom .. import frame\nfrom ...addresses import absolute"),
        ("hypha_rpc/wire/a.py", "def f():\n    import numpy as np"),
        ("hypha_rpc/wire/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy as np"),
        ("hypha_rpc/endpoint/a.py", "from hypha_rpc.wire import frame"),
        ("hypha_rpc/client/a.py", "import asyncio\nfrom hypha_rpc import transports\nimport hypha_rpc.endpoint.calls"),
        ("hypha_rpc/__init__.py", "def __getattr__(n):\n    from hypha_rpc.client import connect"),
        ("server/hypha/broker/a.py", "import asyncio\nfrom hypha_rpc.wire import frame\nfrom hypha import settings"),
        ("server/hypha/manager/a.py", "from hypha_rpc.endpoint import endpoint\nfrom hypha.store import sqlite"),
        ("server/hypha/doors/inproc.py", "from hypha_rpc.transports import memory"),
        ("server/hypha/serving.py", "from hypha import web, doors\nimport uvicorn"),
        ("hypha_rpc/transports/picows_transport.py", "import picows"),
    ],
)
def test_an_allowed_import_is_let_through(tmp_path: Path, file: str, source: str) -> None:
    known = [
        *("hypha_rpc/__init__.py", "hypha_rpc/transports/__init__.py", "hypha_rpc/wire/frame.py"),
        *("server/hypha/settings.py", "server/hypha/web/__init__.py", "server/hypha/doors/__init__.py"),
    ]
    assert import_rules.violations(write(tmp_path, dict.fromkeys(known, "") | {file: source})) == []


@pytest.mark.parametrize("module", COMPATIBILITY_MODULES)
def test_an_old_import_path_holds_nothing_but_imports(module: str) -> None:
    path = import_rules.REPOSITORY / "hypha_rpc" / f"{module}.py"
    statements = ast.parse(path.read_text("utf-8")).body if path.exists() else []
    others = [ast.unparse(node) for node in statements if not _is_import_or_text(node)]
    assert others == []


def _is_import_or_text(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets] == ["__all__"]
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_text or isinstance(node, ast.Import | ast.ImportFrom)


def test_the_program_reports_and_fails(tmp_path: Path) -> None:
    source = import_rules.REPOSITORY / "tests" / "house" / "import_rules.py"
    write(tmp_path, {"tests/house/import_rules.py": source.read_text("utf-8"), "hypha_rpc/wire/a.py": "import time"})
    program = tmp_path / "tests" / "house" / "import_rules.py"
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 1
    assert "hypha_rpc/wire/a.py:1: hypha_rpc.wire is pure and may not import time" in done.stdout
