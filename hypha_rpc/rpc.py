"""Import path of existing programs."""

from hypha_rpc.client.proxies import RemoteFunction, RemoteService
from hypha_rpc.client.rpc import RPC
from hypha_rpc.endpoint.builtin import API_VERSION
from hypha_rpc.endpoint.exports import MAGIC_MEMBERS as ALLOWED_MAGIC_METHODS
from hypha_rpc.endpoint.options import CHUNK_SIZE
from hypha_rpc.endpoint.transfers import WINDOW as CONCURRENCY_LIMIT
from hypha_rpc.errors import RemoteException
from hypha_rpc.objects import DefaultObjectProxy, ObjectProxy
from hypha_rpc.schemas import argument_texts as _parse_docstring
from hypha_rpc.schemas import function_schema as _convert_function_to_schema
from hypha_rpc.schemas import service_schema as _get_schema
from hypha_rpc.utils.schema import schema_function

__all__ = [
    "ALLOWED_MAGIC_METHODS",
    "API_VERSION",
    "CHUNK_SIZE",
    "CONCURRENCY_LIMIT",
    "RPC",
    "DefaultObjectProxy",
    "ObjectProxy",
    "RemoteException",
    "RemoteFunction",
    "RemoteService",
    "_convert_function_to_schema",
    "_get_schema",
    "_parse_docstring",
    "schema_function",
]
