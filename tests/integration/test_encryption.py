"""End-to-end encryption between two clients of our server (python-client §15, behaviours B148-B156, security S48)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from hypha_rpc import connect_to_server
from hypha_rpc.crypto import (
    HAS_CRYPTO,
    decrypt_payload,
    encrypt_payload,
    generate_encryption_keypair,
    public_key_from_hex,
    public_key_to_hex,
)
from hypha_rpc.errors import RemoteException
from hypha_rpc.wire.frame import read_extra, read_header

CONFIG = {"visibility": "public", "require_context": ["who"]}


async def items(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


class Offered:
    """The functions of the provider in these tests."""

    def __init__(self) -> None:
        self.kept: Any = None

    def who(self, context: Any = None) -> dict[str, Any]:
        return {key: context[key] for key in ("encryption", "caller_public_key") if key in context}

    def echo(self, value: Any) -> Any:
        return value

    def fail(self) -> None:
        raise ValueError("so it is")

    async def call_back(self, function: Any, times: int) -> list[Any]:
        return [await function(number) for number in range(times)]

    def count(self, to: int) -> AsyncIterator[int]:
        return items(to)

    def adder(self, to: int) -> Any:
        return lambda number: number + to

    async def total(self, numbers: Any) -> int:
        return sum([number async for number in numbers])

    def keep(self, listener: Any) -> None:
        self.kept = listener

    async def tell(self, value: Any) -> Any:
        return await self.kept.heard(value)

    def service(self, name: str, **config: Any) -> dict[str, Any]:
        names = ("who", "echo", "fail", "call_back", "count", "adder", "total", "keep", "tell")
        functions = {key: getattr(self, key) for key in names}
        return {"id": name, "config": {**CONFIG, **config}, **functions, "deep": {"echo": self.echo}}


async def connect(server_url: str, **options: Any) -> Any:
    return await connect_to_server({"server_url": server_url, "encryption": True, **options})


@pytest.fixture
async def world(server_url: str) -> AsyncIterator[Any]:
    """A provider and a consumer that encrypt, and one that does not, in one workspace."""
    provider = await connect(server_url, client_id="enc-provider")
    token = await provider.generate_token()
    consumer = await connect(server_url, client_id="enc-consumer", token=token)
    plain = await connect_to_server({"server_url": server_url, "client_id": "plain-consumer", "token": token})
    yield provider, consumer, plain
    for server in (plain, consumer, provider):
        await server.disconnect()


async def fetch(provider: Any, consumer: Any, **config: Any) -> Any:
    """A service of *provider* with calls encrypted for it."""
    await provider.register_service(Offered().service("secret", **config), overwrite=True)
    return await consumer.get_service("secret", encryption_public_key=provider.rpc.get_public_key())


async def test_the_context_of_an_encrypted_call_names_the_key_of_its_caller_b148(world: Any) -> None:
    provider, consumer, _ = world
    service = await fetch(provider, consumer)
    own = consumer.rpc.get_public_key()
    assert len(own) == 64
    assert await service.who() == {"encryption": True, "caller_public_key": own}
    assert await service.who() == {"encryption": True, "caller_public_key": own}


async def test_an_unencrypted_client_may_call_too_b149(world: Any) -> None:
    provider, consumer, plain = world
    await fetch(provider, consumer)
    service = await plain.get_service("secret")
    assert await service.who() == {}
    assert await service.echo([1, {"a": b"x"}]) == [1, {"a": b"x"}]


@pytest.mark.parametrize("others", [0, 2])
async def test_a_trusted_key_may_call_b151(world: Any, others: int) -> None:
    provider, consumer, _ = world
    keys = [public_key_to_hex(generate_encryption_keypair()[1]) for _ in range(others)]
    service = await fetch(provider, consumer, trusted_keys=[*keys, consumer.rpc.get_public_key().upper()])
    assert await service.echo(1) == 1


async def test_each_of_several_trusted_keys_may_call_b151(world: Any, server_url: str) -> None:
    provider, consumer, _ = world
    token = await provider.generate_token()
    second = await connect(server_url, token=token)
    try:
        keys = [consumer.rpc.get_public_key(), second.rpc.get_public_key()]
        service = await fetch(provider, consumer, trusted_keys=keys)
        other = await second.get_service("secret", {"encryption_public_key": provider.rpc.get_public_key()})
        assert await service.echo(1) == 1
        assert await other.echo(2) == 2
    finally:
        await second.disconnect()


async def test_an_untrusted_key_is_refused_b152(world: Any) -> None:
    provider, consumer, _ = world
    service = await fetch(provider, consumer, trusted_keys=["ab" * 32])
    with pytest.raises(PermissionError, match="not in the trusted keys"):
        await service.echo(1)


@pytest.mark.parametrize("visibility", ["public", "protected", "unlisted"])
async def test_a_plain_call_of_a_service_with_trusted_keys_is_refused_b153(world: Any, visibility: str) -> None:
    provider, consumer, plain = world
    await fetch(provider, consumer, trusted_keys=[consumer.rpc.get_public_key()], visibility=visibility)
    service = await plain.get_service("secret")
    with pytest.raises(PermissionError, match="Encryption required"):
        await service.echo(1)
    unsealed = await consumer.get_service("secret")
    with pytest.raises(PermissionError, match="Encryption required"):
        await unsealed.echo(1)


async def test_with_the_wrong_key_of_the_target_a_call_fails_at_once_b154(world: Any) -> None:
    provider, consumer, _ = world
    await fetch(provider, consumer)
    wrong = public_key_to_hex(generate_encryption_keypair()[1])
    service = await consumer.get_service("secret", encryption_public_key=wrong)
    with pytest.raises(RemoteException, match="Decryption failed for method .*echo. Invalid key or tampered data"):
        await service.echo(1)


async def test_a_callee_without_encryption_says_so_at_once(world: Any) -> None:
    _, consumer, plain = world
    await plain.register_service(Offered().service("plain"))
    service = await consumer.get_service("plain", encryption_public_key=consumer.rpc.get_public_key())
    with pytest.raises(RemoteException, match="connected without encryption"):
        await service.echo(1)


async def test_values_of_all_kinds_survive_b155(world: Any) -> None:
    provider, consumer, _ = world
    service = await fetch(provider, consumer)
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    back = await service.echo({"array": array, "deep": [{"text": "x", "none": None}], "number": 1.5})
    assert np.array_equal(back["array"], array)
    assert back.deep[0].text == "x" and back["number"] == 1.5
    assert await service.deep.echo("nested") == "nested"
    assert await service.echo(value="keyword") == "keyword"


async def test_no_trusted_keys_restrict_nothing_b156(world: Any) -> None:
    provider, consumer, plain = world
    service = await fetch(provider, consumer, trusted_keys=[])
    assert await service.echo(1) == 1
    assert await (await plain.get_service("secret")).echo(1) == 1


async def test_errors_callbacks_generators_and_functions_work_encrypted(world: Any) -> None:
    provider, consumer, _ = world
    service = await fetch(provider, consumer, trusted_keys=[consumer.rpc.get_public_key()])
    with pytest.raises(ValueError, match="so it is"):
        await service.fail()
    assert await service.call_back(lambda number: number * 10, 3) == [0, 10, 20]
    assert [number async for number in await service.count(5)] == [0, 1, 2, 3, 4]
    assert await service.total(items(4)) == 6
    assert await (await service.adder(5))(1) == 6


async def test_a_persistent_interface_sent_encrypted_is_called_encrypted(world: Any) -> None:
    provider, consumer, _ = world
    service = await fetch(provider, consumer)
    await service.keep({"_rintf": True, "heard": lambda value: f"heard {value}"})
    assert await service.tell("it") == "heard it"


async def test_big_messages_are_encrypted_before_they_are_cut(world: Any) -> None:
    provider, consumer, _ = world
    service = await fetch(provider, consumer)
    block = bytes(range(256)) * 8192
    assert await service.echo(block) == block
    array = np.arange(600_000, dtype=np.float64)
    assert np.array_equal(await service.echo(array), array)


async def test_nothing_of_arguments_results_and_errors_can_be_read_on_the_way(world: Any) -> None:
    provider, consumer, _ = world
    service = await fetch(provider, consumer)
    seen: list[bytes] = []
    for server in (provider, consumer):
        port = server.rpc.port
        send = port.send
        port.send = lambda frame, send=send: (seen.append(bytes(frame)), send(frame))[1]

    def called_back(value: str) -> str:
        return f"{value} MARKED"

    await service.echo("MARKED")
    await service.call_back(called_back, 2)
    with pytest.raises(ValueError, match="so it is"):
        await service.fail()
    assert len(seen) >= 10
    assert not [frame for frame in seen if b"MARKED" in frame or b"so it is" in frame]
    for frame in seen:
        header, offset = read_header(frame)
        assert set(read_extra(frame, offset)) in ({"_enc", "data"}, set()), header


async def test_a_replayed_call_is_refused_and_runs_once(world: Any) -> None:
    provider, consumer, _ = world
    ran: list[int] = []
    await provider.register_service({"id": "once", "run": ran.append})
    service = await consumer.get_service("once", encryption_public_key=provider.rpc.get_public_key())
    seen: list[bytes] = []
    port = consumer.rpc.port
    send = port.send
    port.send = lambda frame: (seen.append(bytes(frame)), send(frame))[1]
    await service.run(1)
    replay = next(frame for frame in seen if b"services.once.run" in frame)
    send(replay)
    await service.run(2)
    assert ran == [1, 2]


async def test_without_encryption_the_key_of_a_target_has_no_effect_but_a_warning(world: Any, caplog: Any) -> None:
    provider, consumer, plain = world
    await fetch(provider, consumer)
    service = await plain.get_service("secret", encryption_public_key=provider.rpc.get_public_key())
    assert await service.who() == {}
    assert "has no effect" in caplog.text


@pytest.mark.parametrize("text", ["zz" * 32, "ab", 5])
async def test_a_bad_key_of_a_target_is_a_value_error(world: Any, text: Any) -> None:
    _, consumer, _ = world
    with pytest.raises(ValueError, match="64-char hex"):
        await consumer.get_service("secret", encryption_public_key=text)


async def test_a_key_pair_of_ones_own_is_used(server_url: str) -> None:
    private, public = generate_encryption_keypair()
    server = await connect(server_url, encryption_private_key=private, encryption_public_key=public)
    assert server.rpc.get_public_key() == public.hex()
    await server.disconnect()


@pytest.mark.parametrize("given", ["encryption_private_key", "encryption_public_key"])
async def test_half_a_key_pair_is_refused(server_url: str, given: str) -> None:
    with pytest.raises(ValueError, match="together"):
        await connect(server_url, **{given: b"x" * 32})


async def test_a_pair_that_is_none_is_refused(server_url: str) -> None:
    private, public = generate_encryption_keypair()[0], generate_encryption_keypair()[1]
    with pytest.raises(ValueError, match="not the public key"):
        await connect(server_url, encryption_private_key=private, encryption_public_key=public)


async def test_encryption_is_off_by_default(anonymous: Any) -> None:
    assert anonymous.rpc.get_public_key() is None


async def test_without_pynacl_the_error_says_what_to_install(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nacl", None)
    monkeypatch.setitem(sys.modules, "nacl.bindings", None)
    with pytest.raises(ImportError, match=r"install hypha-rpc\[encryption\]"):
        await connect(server_url)
    for use in (generate_encryption_keypair, lambda: encrypt_payload(b"x" * 32, b"y" * 32, b"")):
        with pytest.raises(ImportError, match=r"install hypha-rpc\[encryption\]"):
            use()
    async with connect_to_server(server_url=server_url) as server:
        assert await server.echo("plain") == "plain"


def test_the_helpers_of_programs_b150() -> None:
    mine, theirs, other = (generate_encryption_keypair() for _ in range(3))
    assert {len(key) for pair in (mine, theirs, other) for key in pair} == {32}
    nonce, sealed = encrypt_payload(mine[0], theirs[1], b"secret")
    assert len(nonce) == 24
    assert decrypt_payload(theirs[0], mine[1], nonce, sealed) == b"secret"
    for private, public in ((other[0], mine[1]), (theirs[0], other[1])):
        with pytest.raises(ValueError, match="invalid key or tampered data"):
            decrypt_payload(private, public, nonce, sealed)
    text = public_key_to_hex(mine[1])
    assert len(text) == 64 and public_key_from_hex(text) == mine[1] and text == text.lower()
    assert HAS_CRYPTO is True


async def test_keys_are_kept_over_a_reconnection(world: Any) -> None:
    provider, consumer, _ = world
    service = await fetch(provider, consumer)
    key = consumer.rpc.get_public_key()
    back = asyncio.get_running_loop().create_future()
    consumer.on("services_registered", lambda counts: back.done() or back.set_result(counts))
    await consumer.rpc._connection._websocket.close(1001)
    await asyncio.wait_for(back, 10)
    assert await service.who() == {"encryption": True, "caller_public_key": key}


async def test_trusted_keys_without_encryption_are_worth_a_warning(anonymous: Any, caplog: Any) -> None:
    await anonymous.register_service({"id": "closed", "config": {"trusted_keys": ["ab" * 32]}})
    assert "closed cannot be called: it has trusted_keys" in caplog.text
