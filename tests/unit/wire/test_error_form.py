"""Exceptions on the wire: what ours send, and what is made of everybody's (protocol §3.3, §4.7; extensions §2)."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from hypha_rpc import errors
from hypha_rpc.wire import Decoder, default_forms
from hypha_rpc.wire.forms.errors import encode_error, remote_error
from hypha_rpc.wire.values import DecodingError


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - any error is what the test wants back
        return caught


def received(wire: dict[str, Any]) -> Any:
    return Decoder(default_forms()).decode(wire)


def public(wire: dict[str, Any]) -> dict[str, Any]:
    """The map as a public peer would send it."""
    return {key: value for key, value in wire.items() if key != "_rerr"}


def test_the_map_has_what_public_peers_read() -> None:
    wire = encode_error(raised(KeyError("k")))
    assert wire["_rtype"] == "error"
    assert wire["_rvalue"] == "'k'"
    assert wire["_rtrace"].startswith("Traceback") and wire["_rtrace"].endswith("KeyError: 'k'")


def test_a_server_shows_no_stack() -> None:
    wire = encode_error(raised(ValueError("bad")), with_trace=False)
    assert wire["_rtrace"] == "ValueError: bad"


@pytest.mark.parametrize(
    "error", [ValueError("bad"), KeyError("k"), ZeroDivisionError("0"), TimeoutError("late"), OSError(2, "no")]
)
@pytest.mark.parametrize("form", [lambda wire: wire, public], ids=["ours", "public"])
def test_a_builtin_error_is_caught_as_itself_and_as_remote(error: Exception, form: Any) -> None:
    arrived = received(form(encode_error(raised(error))))
    assert isinstance(arrived, type(error))
    assert isinstance(arrived, errors.RemoteException)
    assert arrived.remote_type == type(error).__name__
    assert arrived.remote_message == str(error)
    name = type(error).__name__
    assert str(arrived) == f"RemoteError:{error}\n{name}: {error}"
    assert arrived.__notes__[0].startswith("Remote traceback:\nTraceback")


@pytest.mark.parametrize(
    "name",
    "SystemExit KeyboardInterrupt GeneratorExit StopIteration StopAsyncIteration CancelledError Exception eval object "
    "ExceptionGroup __import__ Mine".split(),
)
def test_other_names_are_plain_remote_exceptions(name: str) -> None:
    arrived = remote_error("m", "", {"type": name})
    assert type(arrived) is errors.RemoteException
    assert arrived.remote_type == name
    assert not isinstance(arrived, (StopIteration, StopAsyncIteration))


@pytest.mark.parametrize(
    ("text", "kind", "builtin"),
    [
        ("Target peer w/c is not connected", errors.PeerGone, ConnectionError),
        ("Service not found: x", errors.ServiceNotFound, KeyError),
        ("'Service not found: x'", errors.ServiceNotFound, KeyError),
        ("Method expired or not found: w/c:a.b", errors.MethodNotFound, AttributeError),
        ("Method not found: w/c:a at c", errors.MethodNotFound, AttributeError),
        ("Invalid method: w/c:a.b", errors.MethodNotFound, AttributeError),
        ("Session not found: w/c:a.b", errors.CallbackExpired, ReferenceError),
        ("Parent session was closed: p", errors.CallbackExpired, ReferenceError),
        ("Permission denied for invoking protected method x", errors.PermissionDenied, PermissionError),
    ],
)
def test_texts_of_public_peers_become_classes(text: str, kind: type, builtin: type) -> None:
    for wire_text in (text, f"Error: {text}"):
        arrived = received({"_rtype": "error", "_rvalue": wire_text, "_rtrace": ""})
        assert isinstance(arrived, kind)
        assert isinstance(arrived, builtin)
        assert text in str(arrived)


def test_a_call_to_a_peer_that_was_not_there_did_not_run() -> None:
    assert not received({"_rtype": "error", "_rvalue": "Target peer w/c is not connected"}).may_have_run
    assert received({"_rtype": "error", "_rvalue": "bad"}).may_have_run


def test_an_asynchronous_public_method_sends_its_traceback_as_the_message() -> None:
    frames = '  File "x", line 1, in f\n    raise ValueError("two\\nlines")\n'
    trace = f"Traceback (most recent call last):\n{frames}ValueError: two\nlines\n"
    arrived = received({"_rtype": "error", "_rvalue": trace, "_rtrace": f"Exception: {trace}"})
    assert isinstance(arrived, ValueError)
    assert arrived.remote_message == "two\nlines"


def test_a_qualified_class_name_loses_its_module() -> None:
    trace = 'Traceback (most recent call last):\n  File "x", line 1, in f\n    g()\npackage.module.MyError: text'
    arrived = remote_error(trace)
    assert (arrived.remote_type, arrived.remote_message) == ("MyError", "text")  # type: ignore[attr-defined]


def test_a_javascript_error_is_told_by_its_prefix() -> None:
    arrived = received({"_rtype": "error", "_rvalue": "TypeError: bad", "_rtrace": "TypeError: bad\n  at f"})
    assert isinstance(arrived, TypeError)
    assert arrived.remote_message == "bad"


@pytest.mark.parametrize("trace", [None, "", 5, ["x"], "ValueError"])
def test_the_trace_may_be_anything(trace: Any) -> None:
    assert "bad" in str(received({"_rtype": "error", "_rvalue": "bad", "_rtrace": trace}))


@pytest.mark.parametrize(
    "details", [None, 5, {}, {"type": 5}, {"type": "x" * 10_000, "args": [[[]]]}, {"may_have_run": "no"}]
)
def test_details_may_be_anything(details: Any) -> None:
    arrived = received({"_rtype": "error", "_rvalue": "bad", "_rerr": details})
    assert isinstance(arrived, errors.RemoteException)
    assert len(arrived.remote_type) <= 200
    assert arrived.may_have_run


def test_an_error_that_cannot_have_two_parents_is_what_its_base_is() -> None:
    error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    arrived = received(encode_error(error))
    assert isinstance(arrived, UnicodeError)
    assert arrived.remote_type == "UnicodeDecodeError"  # type: ignore[attr-defined]


def test_module_and_plain_arguments_of_the_original_are_told() -> None:
    arrived = received(encode_error(KeyError("k", 2)))
    assert (arrived.remote_module, arrived.remote_args) == ("builtins", ("k", 2))
    assert received({"_rtype": "error", "_rvalue": "bad"}).remote_args == ()
    missing = received(encode_error(FileNotFoundError(2, "No such file", "x.txt")))
    assert (missing.errno, missing.strerror) == (2, "No such file")


def test_a_class_of_the_program_is_not_mistaken_for_ours() -> None:
    described = {"type": "PeerGone", "module": "game.ghosts", "args": [], "may_have_run": False}
    arrived = received({"_rtype": "error", "_rvalue": "boo", "_rerr": described})
    assert type(arrived) is errors.RemoteException


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.CallTimeout("late"), TimeoutError),
        (errors.ConnectionLost("down"), ConnectionError),
        (errors.SerializationError("no form"), TypeError),
        (errors.TooManyPending("many"), RuntimeError),
        (DecodingError("malformed"), ValueError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_trouble_of_a_peer_is_the_builtin_but_not_our_own_trouble(error: Exception, builtin: type) -> None:
    arrived = received(encode_error(error))
    assert isinstance(arrived, builtin)
    assert isinstance(arrived, errors.RemoteException)
    assert not isinstance(arrived, type(error))
    assert arrived.remote_type == type(error).__name__


def test_an_inner_call_that_did_not_run_says_nothing_about_the_outer_one() -> None:
    inner = received({"_rtype": "error", "_rvalue": "Target peer w/c is not connected", "_rtrace": ""})
    assert not inner.may_have_run
    outer = received(encode_error(raised(inner)))
    assert isinstance(outer, errors.PeerGone)
    assert outer.may_have_run


@pytest.mark.parametrize(
    "wire",
    [
        {
            "_rvalue": "Target peer w/c is not connected",
            "_rtrace": "Traceback (most recent call last):\n  x\nException: y",
        },
        {"_rvalue": "RemoteError:Target peer w/c is not connected\n", "_rtrace": ""},
        {
            "_rvalue": "Traceback (most recent call last):\n  File x\nhypha_rpc.rpc.RemoteException: "
            "RemoteError:Target peer w/c is not connected",
            "_rtrace": "",
        },
    ],
    ids=["raised", "relayed", "relayed by an async function"],
)
def test_a_text_that_a_function_raised_is_not_about_this_call(wire: dict[str, Any]) -> None:
    arrived = received({"_rtype": "error", **wire})
    assert arrived.may_have_run
    assert "Target peer w/c is not connected" in arrived.remote_message


STACK = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    g()\n'


@pytest.mark.parametrize(
    ("text", "trace"),
    [
        (
            f"RemoteError:bad\n{STACK}ValueError: bad",
            f"{STACK}hypha_rpc.rpc.RemoteException: RemoteError:bad\n{STACK}ValueError: bad",
        ),
        (f"RemoteError:RemoteError:bad\n{STACK}ValueError: bad", ""),
        (f"{STACK}hypha_rpc.rpc.RemoteException: RemoteError:bad\n{STACK}ValueError: bad", ""),
        (f"Error: RemoteError: bad\n{STACK}ValueError: bad", "at x"),
        ("RemoteError:bad\nValueError: bad", ""),
    ],
    ids=["public", "public twice", "public async", "javascript", "ours"],
)
def test_the_prefix_of_every_hop_is_taken_off(text: str, trace: str) -> None:
    arrived = received({"_rtype": "error", "_rvalue": text, "_rtrace": trace})
    assert isinstance(arrived, ValueError)
    assert arrived.remote_message == "bad"  # type: ignore[attr-defined]
    assert str(arrived) == "RemoteError:bad\nValueError: bad"


@pytest.mark.parametrize("error", [KeyError("k"), ValueError("v"), errors.PeerGone("gone"), LookupError("x")])
def test_a_remote_error_survives_pickling(error: Exception) -> None:
    arrived = received(encode_error(raised(error)))
    again = pickle.loads(pickle.dumps(arrived))
    assert type(again) is type(arrived)
    assert vars(again) == vars(arrived)
    assert str(again) == str(arrived)


def test_our_own_call_errors_keep_their_class_and_whether_they_ran() -> None:
    cases = (
        errors.CallCancelled("stop"),
        errors.ServiceNotFound("x"),
        errors.PermissionDenied("p"),
        errors.PeerGone("g"),
    )
    for error in cases:
        arrived = received(encode_error(error, may_have_run=False))
        assert isinstance(arrived, type(error))
        assert isinstance(arrived, errors.RemoteException)
        assert not arrived.may_have_run


def test_a_remote_error_passed_on_keeps_its_origin() -> None:
    first = received(encode_error(raised(LookupError("deep"))))
    second = received(encode_error(raised(first)))
    assert isinstance(second, LookupError)
    assert (second.remote_message, second.remote_traceback) == ("deep", first.remote_traceback)  # type: ignore[attr-defined]


def test_only_plain_arguments_up_to_four_kib_travel() -> None:
    def arguments(*args: Any) -> Any:
        return encode_error(ValueError(*args))["_rerr"]["args"]

    assert arguments("a", 1, [2]) == ["a", 1, [2]]
    assert arguments("a", object(), 3) == ["a"]
    assert arguments("a", "x" * 5000) == ["a"]
    assert arguments(2**70) == []
    assert arguments("\ud800") == []


def test_any_text_can_be_sent_and_long_ones_are_cut() -> None:
    wire = encode_error(ValueError("\ud800" + "x" * 100_000))
    assert wire["_rvalue"].startswith("\\ud800x")
    assert len(wire["_rvalue"]) < 70_000
    assert wire["_rvalue"].encode()


def test_an_exception_that_cannot_describe_itself_is_still_sent() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert encode_error(Broken())["_rvalue"] == "<unprintable Broken>"


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(errors.SerializationError):
        received({"_rtype": "error", "_rtrace": "x"})
