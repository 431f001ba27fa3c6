"""The example notebook runs in a real Jupyter kernel, and a notebook can be interrupted and closed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[3] / "examples" / "blocking_notebook.ipynb"
# The kernel's own libraries warn about themselves.
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("default:::jupyter_client"),
    pytest.mark.filterwarnings("default:::zmq"),
    pytest.mark.filterwarnings("default::ResourceWarning"),
    pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),
]


def notebook_of(*cells: str) -> Any:
    """A notebook with these code cells."""
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    return made


@pytest.fixture
def client_of(server_url, monkeypatch, tmp_path):
    """``client_of(notebook)``: executes it with a kernel of this interpreter."""
    monkeypatch.setenv("HYPHA_SERVER_URL", server_url)
    # No kernel that is installed for the user, and none of its settings.
    folder = tmp_path / "kernels" / "here"
    folder.mkdir(parents=True)
    command = f'["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    (folder / "kernel.json").write_text(f'{{"argv": {command}, "display_name": "here", "language": "python"}}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return lambda notebook: NotebookClient(notebook, timeout=60, kernel_name="here")


def results(notebook: Any) -> list[dict[str, Any]]:
    """What the code cells show, one map of MIME types a cell (printed text as ``stdout``)."""
    found: list[dict[str, Any]] = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shown: dict[str, Any] = {}
            for output in cell.outputs:
                assert output.output_type != "error", output
                assert output.get("name") != "stderr", output
                text = output.get("text", "")
                shown.update(output.get("data") or {"stdout": shown.get("stdout", "") + text})
            found.append(shown)
    return found


async def test_the_example_notebook_shows_what_it_says(client_of):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = client_of(notebook)
    await client.async_execute()
    connect, register, service, function, names, snap, scan, error, asynchronous, leave = results(notebook)
    assert connect["text/plain"] == "True"
    assert register["text/plain"] == "'Camera'"
    assert "snap(exposure: float, label: str = ..., progress: str = ...)" in service["text/html"]
    assert "Take an image." in service["text/html"]
    assert "exposure: seconds" in function["text/html"]
    assert {"'snap'", "'scan'"} <= set(names["text/plain"].strip("[]").replace("\n", "").replace(" ", "").split(","))
    assert snap["stdout"] == "0 %\n50 %\n100 %\n"
    assert snap["text/plain"] == "[[0.5, 0], [0, 0.5]]"
    assert scan["text/plain"] == "[0, 1, 2]"
    assert "missing 1 required positional argument: 'exposure'" in error["stdout"]
    assert asynchronous["stdout"] == "[[0.5, 0], [0, 0.5]]\n"
    assert leave == {}


async def test_interrupting_the_kernel_ends_a_blocking_call(client_of):
    notebook = notebook_of(
        "import os, time\nfrom hypha_rpc.sync import connect_to_server\n"
        'server = connect_to_server(server_url=os.environ["HYPHA_SERVER_URL"])\n'
        'server.register_service({"id": "svc", "wait": lambda: time.sleep(30)})\n'
        'service = server.get_service("svc")',
        'try:\n    print("waiting")\n    service.wait()\nexcept KeyboardInterrupt:\n    print("interrupted")',
        'print(server.echo("usable"))',
    )
    client = client_of(notebook)
    async with client.async_setup_kernel():
        await client.async_execute_cell(notebook.cells[0], 0)
        waiting = asyncio.create_task(client.async_execute_cell(notebook.cells[1], 1))
        while not notebook.cells[1].outputs:
            await asyncio.sleep(0.01)
        await client.km.interrupt_kernel()
        await asyncio.wait_for(waiting, 10)
        await client.async_execute_cell(notebook.cells[2], 2)
        # The kernel is shut down with a service registered: closing a notebook does not serve on.
    assert [shown.get("stdout") for shown in results(notebook)] == [None, "waiting\ninterrupted\n", "usable\n"]


async def test_completion_offers_the_members_of_a_service(client_of):
    notebook = notebook_of(
        "import os\nfrom hypha_rpc.sync import connect_to_server\n"
        'server = connect_to_server(server_url=os.environ["HYPHA_SERVER_URL"])\n'
        'server.register_service({"id": "svc", "acquire_image": len})\nservice = server.get_service("svc")',
    )
    client = client_of(notebook)
    async with client.async_setup_kernel():
        await client.async_execute_cell(notebook.cells[0], 0)
        reply = await client.kc.complete("service.acq", reply=True, timeout=30)
        assert [match.rpartition(".")[2] for match in reply["content"]["matches"]] == ["acquire_image"]
        reply = await client.kc.inspect("service.acquire_image", reply=True, timeout=30)
        assert reply["content"]["found"]
