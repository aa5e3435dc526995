"""Addresses as they may be shown: cameras take their passwords inside them."""

import re
from urllib.parse import urlsplit


def without_secrets(address: str) -> str:
    """The address without user, password, query and settings: `rtsp://host:554/path`.

    What is no address stays as it is, but for what looks like a user and a password in it.
    """
    if "://" not in address:
        return re.sub(r"[^/\s]*:[^/\s]*@", "", address)
    try:
        parts = urlsplit(address)
    except ValueError:
        return address.partition("://")[0] + "://…"
    # Some cameras take their password inside the path: /user=admin&password=x&channel=1
    path = re.sub(r"[^/]*[=@&][^/]*", "…", parts.path)
    query = "?…" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}{query}"
