"""Pydantic models on the wire, at the path programs import it from (python-client §24).

Models travel without anything of this; these are for programs that did it themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypha_rpc.wire.forms.models import describe_model, model_from_schema

__all__ = ["create_model_from_schema", "pydantic_decoder", "pydantic_encoder", "register_pydantic_codec"]


def create_model_from_schema(schema: dict[str, Any]) -> Any:
    """Make a pydantic model of the JSON schema that ``Model.model_json_schema()`` gave.

    Args:
        schema: a schema of type object.

    Returns:
        A subclass of ``pydantic.BaseModel``.
    """
    model = model_from_schema(schema)
    description = schema.get("description")
    if isinstance(description, str):
        model.__doc__ = description
    return model


def pydantic_encoder(obj: Any) -> dict[str, Any]:
    """The wire form of a model: its fields and its schema."""
    return {"_rtype": "pydantic_model", "_rvalue": obj.model_dump(), "_rschema": type(obj).model_json_schema()}


def pydantic_decoder(encoded_obj: Mapping[str, Any]) -> Any:
    """The model behind what `pydantic_encoder` returned; its class is made of the schema."""
    return create_model_from_schema(dict(encoded_obj["_rschema"]))(**encoded_obj["_rvalue"])


def register_pydantic_codec(rpc: Any) -> None:
    """Register models with *rpc* under the name that older peers know; models travel without it, too.

    Only the encoder is named: what peers send is decoded as ever, within the bounds of security S45.

    Args:
        rpc: a connection.
    """
    from pydantic import BaseModel

    rpc.register_codec({"name": "pydantic_model", "type": BaseModel, "encoder": describe_model})
