"""Bytes to messages and back.

Pure: no asyncio, no clock, no randomness, no I/O, no logging. `frame` knows the
two-segment frame, `values` and `forms` the encoding of values, `chunks` the
cutting and reassembling of frames that are too big for one message.
"""

from hypha_rpc.wire.frame import FrameError, FrameWriter, read_extra, read_frame, read_header
from hypha_rpc.wire.limits import WireLimits
from hypha_rpc.wire.values import Decoder, Encoder, FormTable, default_forms

__all__ = [
    "Decoder",
    "Encoder",
    "FormTable",
    "FrameError",
    "FrameWriter",
    "WireLimits",
    "default_forms",
    "read_extra",
    "read_frame",
    "read_header",
]
