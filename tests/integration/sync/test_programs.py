"""When blocking programs end, and what Ctrl-C, exceptions and fork do to them (python-client §14, §16)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from hypha_rpc.sync import connect_to_server

HEAD = """
import sys, threading, time
from hypha_rpc.sync import connect_to_server
server = connect_to_server(server_url=sys.argv[1])
"""


@pytest.fixture
def start(server_url):
    """``start(source, *arguments)``: a program with a connected ``server``; ended with the test."""
    programs = []

    def start(source: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-u", "-c", HEAD + textwrap.dedent(source), server_url, *arguments]
        programs.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()
        program.communicate()


@pytest.fixture
def run(start):
    """``run(source)``: exit code, output, errors of a program that ends by itself."""

    def run(source: str) -> tuple[int, str, str]:
        return finish(start(source))

    return run


def finish(process: subprocess.Popen[str], timeout_s: float = 15) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def test_a_program_that_only_called_ends_at_once(run):
    source = """
        print(server.echo("hello"))
        began = time.monotonic()
        import atexit
        atexit.register(lambda: print(threading.active_count()))
    """
    begin = time.monotonic()
    assert run(source) == (0, "hello\n2\n", "")
    assert time.monotonic() - begin < 5


def test_a_program_that_serves_ends_when_its_service_disconnects_it(server_url, start):
    source = """
        leave = threading.Thread(target=server.disconnect).start
        info = server.register_service({"id": "svc", "leave": leave})
        print(info.id, server.generate_token())
    """
    process = start(source)
    service_id, token = process.stdout.readline().split()
    with connect_to_server(server_url=server_url, token=token) as caller:
        # The answer may come before the good-bye, or not.
        with contextlib.suppress(ConnectionError):
            caller.get_service(service_id).leave()
        assert finish(process) == (0, "", "")


def test_a_program_whose_services_were_withdrawn_ends(server_url, start):
    source = """
        info = server.register_service({"id": "svc", "leave": lambda: server.unregister_service("svc")})
        print(info.id, server.generate_token())
    """
    process = start(source)
    service_id, token = process.stdout.readline().split()
    with connect_to_server(server_url=server_url, token=token) as caller:
        caller.get_service(service_id).leave()
        assert finish(process) == (0, "", "")


def test_a_program_that_serves_and_fails_ends_with_its_error(run):
    code, _, err = run("server.register_service({'id': 'svc', 'f': len})\nraise ValueError('no')")
    assert code == 1
    assert err.rstrip().endswith("ValueError: no")


def test_a_serving_program_uses_threads_and_executors_after_its_main_thread(server_url, start):
    source = """
        import asyncio, socket
        from hypha_rpc import run_in_executor

        async def in_executor(n):
            loop = asyncio.get_running_loop()
            return [await loop.run_in_executor(None, lambda: n + 1), await run_in_executor(lambda: n + 2),
                    bool(await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)),
                    threading.main_thread().is_alive()]

        def deep(n):
            return server.get_service("svc").deep(n - 1) + 1 if n else 0

        config = {"run_in_executor": True}
        info = server.register_service({"id": "svc", "in_executor": in_executor, "deep": deep, "config": config})
        print(info.id, server.generate_token())
    """
    process = start(source)
    service_id, token = process.stdout.readline().split()
    with connect_to_server(server_url=server_url, token=token) as caller:
        service = caller.get_service(service_id)
        time.sleep(0.3)  # the main thread has nothing left to do
        assert service.in_executor(1)[:3] == [2, 3, True]
        assert service.deep(20) == 20
    process.send_signal(signal.SIGINT)
    assert finish(process, 5) == (0, "", "")


def test_ctrl_c_in_a_call_cancels_it_there_and_raises_here(server_url, start, until):
    cancelled, begun = threading.Event(), threading.Event()
    # An async function learns of it; it belongs to another client than the interrupted one.
    with connect_to_server(server_url=server_url) as server:
        import asyncio

        async def forever():
            begun.set()
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        server.register_service({"id": "svc", "forever": forever, "config": {"visibility": "public"}})
        source = """
            service = server.get_service(sys.argv[2])
            print("calling")
            try:
                service.forever()
            except KeyboardInterrupt:
                print("interrupted", service.keys() and server.echo("still usable"))
        """
        process = start(source, f"{server.config.workspace}/{server.config.client_id}:svc")
        assert process.stdout.readline() == "calling\n"
        until(begun.is_set, what="the call")
        process.send_signal(signal.SIGINT)
        assert finish(process) == (0, "interrupted still usable\n", "")
        until(cancelled.is_set, what="the cancellation")


def test_ctrl_c_while_connecting_leaves_nothing(server_url, run):
    source = """
        import socket, signal, os
        deaf = socket.create_server(("127.0.0.1", 0))
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            connect_to_server(server_url=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        except KeyboardInterrupt:
            server.disconnect()
            time.sleep(0.1)
            print("interrupted", threading.active_count())
        deaf.close()
    """
    assert run(source) == (0, "interrupted 1\n", "")


def test_a_program_that_serves_explicitly_is_interrupted(start):
    source = """
        server.register_service({"id": "svc", "f": len})
        print("serving")
        try:
            server.serve()
        except KeyboardInterrupt:
            print("bye")
    """
    process = start(source)
    assert process.stdout.readline() == "serving\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert finish(process, 5) == (0, "bye\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told_and_connects_anew_while_the_parent_goes_on(run):
    source = """
        import os
        service = server.register_service({"id": "svc", "f": len})
        child = os.fork()
        if child == 0:
            try:
                server.echo(1)
            except ConnectionError as error:
                print("fork" in str(error))
            with connect_to_server(server_url=sys.argv[1]) as own:
                print(own.echo("child"), threading.active_count())
            sys.exit(0)
        print(os.waitpid(child, 0)[1], server.echo("parent"))
        server.disconnect()
        print(threading.active_count())
    """
    assert run(source) == (0, "True\nchild 2\n0 parent\n1\n", "")


def test_an_abandoned_blocked_function_does_not_keep_the_program(run):
    source = """
        info = server.register_service({"id": "svc", "stuck": lambda: threading.Event().wait()})
        threading.Thread(target=server.get_service("svc").stuck, daemon=True).start()
        time.sleep(0.2)
        server.disconnect()
        print("end")
    """
    code, out, _ = run(source)
    assert (code, out) == (0, "end\n")


def test_a_blocking_call_that_stops_a_loop_says_so(run):
    source = """
        import asyncio
        from hypha_rpc import connect_to_server as connect
        from hypha_rpc.sync import portal

        portal._WARN_S = 0.2

        async def main():
            async with connect(server_url=sys.argv[1], token=server.generate_token()) as other:
                info = await other.register_service({"id": "svc", "f": lambda: 1})
                # Its answer could only come from the loop that stands still: after method_timeout it is given up.
                server.get_service(info.id)

        asyncio.run(main())
    """
    source = source.replace("server.get_service(info.id)", "server.get_service(info.id).f.options(silence=1)()")
    code, _, err = run(source)
    assert code == 1
    assert "RuntimeWarning: a blocking call of hypha_rpc.sync waits inside a running event loop" in err
    assert "Method call timed out" in err
