"""The settings of HTTP: ``deployment.api.http`` in ``configs/deployment_config.yaml``.

How much a connection may send, keep waiting and leave unread, and what stands in front of the API.
All limits are those of one worker.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, Field

from configs.section import Section

MEBIBYTE = 1024 * 1024


def _root_path(path: str) -> str:
    if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise ValueError(f"'{path}' is no path; write it as /income, without a slash at its end")
    return path


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError(
            f"'{text}' is no network ({error}); write it as 10.0.0.0/8, or 10.0.0.7 for one address"
        ) from error


Network = Annotated[str, AfterValidator(_network)]
Seconds = Annotated[float, Field(gt=0)]


class HttpConfig(Section):
    """Limits of connections, and the proxies in front."""

    root_path: Annotated[str, AfterValidator(_root_path)] = Field(
        "", description="the prefix under which a proxy shows the API, whether it strips it or not"
    )
    trusted_proxies: tuple[Network, ...] = Field(
        (), description="networks of proxies whose X-Forwarded-For and -Proto are believed"
    )
    docs: bool = Field(True, description="whether /docs and /openapi.json are there, for everybody")
    keep_alive_s: Seconds = Field(
        75,
        description="an idle connection is kept so long: longer than proxies keep theirs (60), so "
        "that none sends a request on a connection that is being closed",
    )
    max_connections: int = Field(
        1024,
        ge=1,
        description="another one takes the place of the one that has been silent longest; when all "
        "are being answered it is refused",
    )
    max_header_bytes: int = Field(16 * 1024, ge=256, description="one header, with its name")
    max_head_bytes: int = Field(
        32 * 1024, ge=256, description="the request line and all headers, as in nginx"
    )
    max_headers: int = Field(100, ge=1, description="headers of a request, as in Apache")
    max_pipelined: int = Field(
        4, ge=0, description="requests sent ahead of the answer to the one before"
    )
    smallest_chunk_bytes: int = Field(
        64,
        ge=1,
        description="mean of the chunks of a body, beyond a thousand: each costs as much as a "
        "kilobyte",
    )
    head_limit_s: Seconds = Field(
        10, description="from the first byte of a request to the end of its headers"
    )
    body_limit_s: Seconds = Field(
        10, description="a body or an answer that moves more slowly than `slowest_bytes_s` so long"
    )
    slowest_bytes_s: int = Field(
        64 * 1024, ge=1, description="bytes a second; more than any usable line is slower than"
    )
    held_body_bytes: int = Field(
        32 * MEBIBYTE,
        ge=16 * MEBIBYTE,
        description="bodies of batches and labels that are held at once; others wait unread",
    )
    held_body_wait_s: Seconds = Field(5, description="so long they wait, then 503")
    unread_bytes: int = Field(
        32 * MEBIBYTE,
        ge=MEBIBYTE,
        description="answers that wait for slow readers; beyond it the slowest is hung up on",
    )
