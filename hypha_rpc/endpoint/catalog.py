"""A service as its consumers get it: values encoded, functions as references (protocol §6.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_rpc.endpoint.exports import Service, exported_members
from hypha_rpc.endpoint.references import describe
from hypha_rpc.wire.values import Encoder

if TYPE_CHECKING:
    from hypha_rpc.endpoint.core import Core

__all__ = ["describe_service"]


def describe_service(core: Core, service: Service, me: str | None = None) -> dict[str, Any]:
    """Describe *service* in msgpack natives.

    The rules of a function hang on its service path (X14), so references come from
    the structure of the service and not from the identity of functions.

    Args:
        core: the owner.
        service: what to describe.
        me: address under which its functions are called; its own by default.

    Raises:
        SerializationError: a member has no wire form.
    """
    encoder = Encoder(core.forms, None, core.options.wire)
    target = me or core.address
    described: dict[str, Any] = {"id": service.id}
    described.update(
        (key, value) for key, value in service.info.items() if key != "service_schema" and value is not None
    )
    described["config"] = encoder.encode(service.config)
    schemas = service.info.get("service_schema")
    for key, member in exported_members(service.members):
        schema = schemas.get(key) if isinstance(schemas, dict) else None
        tools = (core, encoder, service)
        described[key] = _member(member, f"services.{service.id}.{key}", target, tools, schema)
    return described


def _member(member: Any, path: str, target: str, tools: tuple[Core, Encoder, Service], schema: Any) -> Any:
    """One member; *schema* is its place in the schema of the service."""
    if isinstance(member, dict):
        pairs = exported_members(member)
        inner = schema if isinstance(schema, dict) else {}
        return {key: _member(value, f"{path}.{key}", target, tools, inner.get(key)) for key, value in pairs}
    if isinstance(member, (list, tuple)):
        parts = schema if isinstance(schema, list) and len(schema) == len(member) else [None] * len(member)
        items = enumerate(zip(member, parts, strict=True))
        return [_member(value, f"{path}.{index}", target, tools, part) for index, (value, part) in items]
    if callable(member):
        reference = getattr(member, "__rpc_object__", None)
        if isinstance(reference, dict):
            return reference
        described = describe(member, path, target=target, server=tools[0].server_url)
        derived = schema.get("function") if isinstance(schema, dict) else None
        if "_rschema" not in described and isinstance(derived, dict):
            described["_rschema"] = derived
        service = tools[2]
        if service.is_idempotent(path.split(".", 2)[2]):
            described["_ridem"] = True
        return described
    return tools[1].encode(member)
