"""The tree of errors is what its module says, for ``except TimeoutError`` and ``except RemoteException`` alike."""

from __future__ import annotations

import pickle

import pytest

from hypha_rpc import errors

TREE = {
    errors.ConnectionFailed: ConnectionError,
    errors.AuthenticationFailed: PermissionError,
    errors.ConnectionLost: ConnectionError,
    errors.CallTimeout: TimeoutError,
    errors.PeerGone: ConnectionError,
    errors.ServiceNotFound: KeyError,
    errors.MethodNotFound: AttributeError,
    errors.PermissionDenied: PermissionError,
    errors.CallbackExpired: ReferenceError,
    errors.SerializationError: TypeError,
    errors.MessageTooLarge: ValueError,
    errors.TooManyPending: RuntimeError,
    errors.SlowConsumer: RuntimeError,
}


@pytest.mark.parametrize(("kind", "builtin"), TREE.items(), ids=lambda kind: kind.__name__)
def test_an_error_is_caught_by_its_builtin_and_by_the_root(kind: type, builtin: type) -> None:
    assert issubclass(kind, errors.HyphaError)
    assert issubclass(kind, builtin)


def test_every_public_class_belongs_to_the_tree() -> None:
    for name in errors.__all__:
        member = getattr(errors, name)
        assert not isinstance(member, type) or issubclass(member, errors.HyphaError)


def test_authentication_is_final_and_other_failures_may_be_retried() -> None:
    assert errors.ConnectionFailed.retryable
    assert not errors.AuthenticationFailed.retryable
    assert issubclass(errors.AuthenticationFailed, ConnectionAbortedError)


def test_a_call_error_knows_its_call() -> None:
    error = errors.CallTimeout("late", peer="w/c", method="services.a.b", call_id="x")
    assert (error.peer, error.method, error.call_id, error.may_have_run) == ("w/c", "services.a.b", "x", True)
    assert str(error) == "late"


@pytest.mark.parametrize(
    ("method", "service"),
    [("services.a.b.c", "a"), ("services.a", "a"), ("services", None), ("S1.id#f", None), (None, None)],
)
def test_a_call_error_knows_its_service(method: str | None, service: str | None) -> None:
    assert errors.PeerGone("x", method=method).service == service


def test_a_builtin_that_cannot_be_mixed_in_gives_its_nearest_base() -> None:
    assert errors.remote_exception_class("UnicodeEncodeError") is errors.remote_exception_class("UnicodeError")
    assert errors.remote_exception_class("BaseExceptionGroup") is errors.RemoteException


@pytest.mark.parametrize("kind", [errors.ServiceNotFound, errors.PermissionDenied, errors.RemoteException])
def test_the_text_of_a_remote_error_is_its_message(kind: type[errors.RemoteException]) -> None:
    assert str(kind("a 'text'")) == "a 'text'"
    assert str(kind()) == ""


def test_a_serialization_error_ends_with_its_path() -> None:
    assert str(errors.SerializationError("no form", "args[0]")) == "no form (at args[0])"
    assert str(errors.SerializationError("no form")) == "no form"


@pytest.mark.parametrize(
    "name", ["KeyError", "ValueError", "OSError", "FileNotFoundError", "MemoryError", "RecursionError"]
)
def test_a_builtin_error_is_both(name: str) -> None:
    kind = errors.remote_exception_class(name)
    assert issubclass(kind, errors.RemoteException)
    assert issubclass(kind, getattr(__builtins__, name, None) or __builtins__[name])  # type: ignore[index]
    assert kind is errors.remote_exception_class(name)
    assert str(kind("text")) == "text"


@pytest.mark.parametrize(
    "name",
    ["", "int", "print", "SystemExit", "BaseException", "StopIteration", "Exception", "\ud800"],
)
def test_other_names_are_no_classes(name: str) -> None:
    assert errors.remote_exception_class(name) is errors.RemoteException


def test_an_error_survives_pickling_with_its_text() -> None:
    assert str(pickle.loads(pickle.dumps(errors.PeerGone("gone", peer="w/c")))) == "gone"
