"""The frame of this server's own pages (security S29). They load nothing from elsewhere and run no inline script."""

from __future__ import annotations

import html
from typing import Final

__all__ = ["PAGE_HEADERS", "page"]

PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
        "img-src 'self' data:; base-uri 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Vary": "Accept",
}

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{base}/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="{base}/static/site.css">
{head}</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def page(title: str, body: str, *, base: str, script: str | None = None) -> str:
    """A whole page.

    Args:
        title: as text.
        body: as HTML, with everything in it escaped.
        base: prefix of every route, without a trailing slash.
        script: name of a script below ``/static``.
    """
    base = html.escape(base)
    head = f'<script src="{base}/static/{html.escape(script)}" defer></script>\n' if script else ""
    return _PAGE.format(title=html.escape(title), body=body, base=base, head=head)
