"""Codecs of a program: which is used, what replaces what, what is refused (python-client §8.1, protocol §3.8)."""

from __future__ import annotations

import collections.abc
import enum
from typing import Any

import numpy
import pydantic
import pytest

from hypha_rpc.errors import SerializationError
from hypha_rpc.objects import ObjectProxy
from hypha_rpc.rpc import RPC


class Animal:
    def __init__(self, name: str) -> None:
        self.name = name


class Dog(Animal):
    pass


class Puppy(Dog):
    pass


class Model(pydantic.BaseModel):
    n: int


class Colour(enum.Enum):
    RED = 1


@pytest.fixture
def rpc() -> RPC:
    return RPC(None, "c", workspace="w")


def named(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "encoder": lambda value: {"name": getattr(value, "name", None)}, **more}


def test_the_result_of_an_encoder_is_marked_with_the_name_and_encoded_in_turn(rpc: RPC) -> None:
    encoder = {"encoder": lambda animal: {"name": animal.name, "tags": {1}, "array": numpy.arange(2)}}
    rpc.register_codec({"name": "animal", "type": Animal, **encoder})
    sent = rpc.encode([Animal("Rex")])[0]
    assert (sent["_rtype"], sent["name"], sent["tags"]) == ("animal", "Rex", {"_rtype": "set", "_rvalue": [1]})
    assert sent["array"]["_rtype"] == "ndarray"


def test_an_encoder_may_choose_another_rtype_or_no_map_at_all(rpc: RPC) -> None:
    rpc.register_codec({"name": "animal", "type": Animal, "encoder": lambda a: {"_rtype": "beast", "n": a.name}})
    rpc.register_codec({"name": "colour", "type": Colour, "encoder": lambda colour: colour.value})
    assert rpc.encode(Animal("x")) == {"_rtype": "beast", "n": "x"}
    assert rpc.encode([Colour.RED]) == [1]


def test_a_decoder_gets_the_decoded_map_and_may_be_any_callable(rpc: RPC) -> None:
    seen: list[Any] = []
    rpc.register_codec({"name": "animal", "decoder": lambda value: seen.append(value) or Animal(value.name)})
    animal = rpc.decode([{"_rtype": "animal", "name": "Rex", "tags": {"_rtype": "set", "_rvalue": [1]}}])[0]
    assert animal.name == "Rex"
    assert type(seen[0]) is ObjectProxy
    assert seen[0] == {"_rtype": "animal", "name": "Rex", "tags": {1}}
    rpc.register_codec({"name": "size", "decoder": len})
    assert rpc.decode({"_rtype": "size", "a": 1}) == 2


def test_the_most_specific_type_wins_whatever_the_order(rpc: RPC) -> None:
    for name, kind in (("animal", Animal), ("puppy", Puppy), ("dog", Dog)):
        rpc.register_codec(named(name, kind))
    made = [Animal("a"), Dog("d"), Puppy("p"), type("Wolf", (Dog,), {})("w")]
    assert [sent["_rtype"] for sent in rpc.encode(made)] == ["animal", "dog", "puppy", "dog"]


def test_a_codec_of_the_same_name_replaces_the_older_one_with_its_type(rpc: RPC) -> None:
    rpc.register_codec(named("one", Animal, decoder=lambda value: "old"))
    rpc.register_codec(named("one", Colour))
    assert rpc.encode(Colour.RED)["_rtype"] == "one"
    with pytest.raises(SerializationError, match="Unsupported data type"):
        rpc.encode(Animal("x"))
    assert rpc.decode({"_rtype": "one"}) == {"_rtype": "one"}


def test_a_codec_of_the_same_type_replaces_the_older_one(rpc: RPC) -> None:
    rpc.register_codec(named("one", Animal))
    rpc.register_codec(named("two", Animal))
    assert rpc.encode(Animal("x"))["_rtype"] == "two"


def test_a_codec_replaces_a_built_in_form_and_gives_it_back(rpc: RPC) -> None:
    rpc.register_codec({"name": "pydantic_model", "type": pydantic.BaseModel, "encoder": lambda model: {"n": model.n}})
    assert rpc.encode(Model(n=1)) == {"_rtype": "pydantic_model", "n": 1}
    rpc.register_codec(named("pydantic_model", Animal))
    assert rpc.encode(Model(n=1))["_rvalue"] == {"n": 1}
    rpc.register_codec({"name": "ndarray", "type": numpy.ndarray, "encoder": list, "decoder": lambda value: "mine"})
    assert [item["_rtype"] for item in rpc.encode(numpy.arange(2, dtype="int8"))] == ["ndarray"] * 2
    assert rpc.decode({"_rtype": "ndarray"}) == "mine"


def test_a_type_may_be_abstract_or_several(rpc: RPC) -> None:
    class Record(collections.abc.Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return 1

        def __iter__(self) -> Any:
            return iter("a")

        def __len__(self) -> int:
            return 1

    class Reader:
        """No subclass, but a member by registration."""

    collections.abc.Mapping.register(Reader)
    rpc.register_codec({"name": "mapping", "type": collections.abc.Mapping, "encoder": lambda value: {"m": True}})
    assert rpc.encode([Record(), Reader()]) == [{"_rtype": "mapping", "m": True}] * 2
    assert rpc.encode({"a": 1}) == {"a": 1}
    rpc.register_codec(named("both", (Animal, Colour)))
    assert [sent["_rtype"] for sent in rpc.encode([Animal("x"), Colour.RED])] == ["both", "both"]


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ({}, "needs a 'name'"),
        ({"name": ""}, "needs a 'name'"),
        ({"name": "x"}, "'encoder' or a 'decoder'"),
        ({"name": "x", "type": Animal}, "'encoder' or a 'decoder'"),
        ({"name": "x", "encoder": str}, "needs a 'type'"),
        ({"name": "x", "type": "Animal", "encoder": str}, "needs a 'type'"),
        ({"name": "x", "type": (), "encoder": str}, "needs a 'type'"),
        ({"name": "x", "type": Animal, "encoder": 5}, "must be callable"),
        ({"name": "x", "decoder": "json"}, "must be callable"),
        *(({"name": "x", "type": kind, "encoder": str}, "fixed form") for kind in (int, str, bytes, dict, list, tuple)),
        ({"name": "x", "type": type(len), "encoder": str}, "fixed form"),
    ],
)
def test_a_codec_that_cannot_work_is_refused_and_changes_nothing(rpc: RPC, codec: dict[str, Any], text: str) -> None:
    rpc.register_codec(named("animal", Animal))
    with pytest.raises(ValueError, match=text):
        rpc.register_codec(codec)
    assert rpc.encode([1, Animal("x")]) == [1, {"_rtype": "animal", "name": "x"}]


def test_an_encoder_may_return_an_interface(rpc: RPC) -> None:
    made: dict[str, Any] = {"_rintf": True, "getItem": lambda key: key}
    rpc.register_codec({"name": "store", "type": Animal, "encoder": lambda _: made})
    sent = rpc.encode(Animal("x"))
    assert sent["_rtype"] == "store"
    assert sent["getItem"]["_rmethod"] == f"services.{made['_rintf_service_id']}.getItem"


def test_codecs_belong_to_one_connection(rpc: RPC) -> None:
    rpc.register_codec(named("animal", Animal))
    with pytest.raises(SerializationError, match="Unsupported data type"):
        RPC(None, "d", workspace="w").encode(Animal("x"))


def test_codecs_may_be_given_at_the_start() -> None:
    rpc = RPC(None, "c", workspace="w", codecs={"animal": named("animal", Animal)})
    assert rpc.encode(Animal("x"))["_rtype"] == "animal"
