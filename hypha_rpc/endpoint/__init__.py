"""One end of the conversation.

Pure: state in, port calls out. Time, ids and limits are arguments; nothing here
imports asyncio, reads a clock, or does I/O, so that two endpoints joined in memory
can be explored under a virtual clock.
"""

from hypha_rpc.endpoint.calls import Call
from hypha_rpc.endpoint.endpoint import Endpoint
from hypha_rpc.endpoint.exports import Service, Target
from hypha_rpc.endpoint.options import EndpointOptions
from hypha_rpc.endpoint.ports import Port, Reference, Waiter
from hypha_rpc.endpoint.running import Running

__all__ = ["Call", "Endpoint", "EndpointOptions", "Port", "Reference", "Running", "Service", "Target", "Waiter"]
