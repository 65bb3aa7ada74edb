"""Where one model of a server is: its address in normal form, the name that the ledger knows it by, and its key."""

from __future__ import annotations

import os
import re
import textwrap
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from solon.digests import whole
from solon.errors import BadInput
from solon.models.spec import ModelSpec

__all__ = ["NO_KEY", "Server", "clean", "normalised_url"]

NO_KEY = "none"
"""What a server of one's own is sent: the SDKs insist on some key."""


@dataclass(frozen=True)
class Server:
    """One model at one address.

    own:      the address is the provider's own
    unusable: what is wrong with the key, where something is: the model can be named and looked up, but not asked
    """

    provider: str
    model: str
    url: str
    own: bool
    key_env: str
    key: str = field(repr=False)
    unusable: str = ""

    def __str__(self) -> str:
        return f"{self.provider}:{self.model} at {self.url}"

    @property
    def identity(self) -> str:
        """Return what the ledger knows the model by, where the recipe does not say otherwise."""
        return f"{self.provider}:{self.model}" + ("" if self.own else f"@{self.url}")

    @classmethod
    def of(cls, spec: ModelSpec, *, own_url: str) -> Server:
        """Return the server that `spec` and the environment name.

        The provider's own key goes to another address only where the environment names both the key and the
        address (OPENAI_BASE_URL), or `key_env` says so: a recipe's `base_url` alone is never sent a key.

        Raises BadInput for an address that cannot be used. A missing key is told by `unusable`: a plan needs none.
        """
        prefix = spec.provider.upper()
        from_env = None if spec.base_url else os.environ.get(f"{prefix}_BASE_URL", "").strip()
        given = spec.base_url or from_env
        where = f"base_url of {spec.use}" if spec.base_url else f"{prefix}_BASE_URL"
        url = normalised_url(given, where) if given else own_url
        if spec.provider == "anthropic":
            url = url.removesuffix("/v1")  # its SDK adds it; both spellings are one server
        own = url == own_url
        key_env = spec.key_env or f"{prefix}_API_KEY"
        key = os.environ.get(key_env, "").strip()
        if spec.base_url and not own and not spec.key_env:
            key = ""
        unusable = ""
        if not key and (own or spec.key_env):
            unusable = f"{spec.use}: no key in {key_env}; set that environment variable, or name another with key_env"
        if key and not (key.isascii() and key.isprintable()):
            unusable = f"{spec.use}: the key in {key_env} holds characters that no key has; set it anew"
            key = ""
        return cls(spec.provider, spec.target, url, own, key_env, key or NO_KEY, unusable)

    def quote(self, words: str, most: int = 240) -> str:
        """Return the server's words on one line, without the key and what looks like one."""
        if self.key != NO_KEY:
            words = words.replace(self.key, "[key]")
        # only now cut, so that no half of a key is left; a page of megabytes is not worth the wrapping
        words = clean(words[: 20 * most])
        words = re.sub(r"\b(?:sk|key)-[\w*.…-]{6,}", "[key]", words)
        return textwrap.shorten(words, most, placeholder=" …")


def normalised_url(url: str, where: str) -> str:
    """Return `url` with scheme and host in lower case, without a default port and without a closing slash.

    Raises BadInput where it is no plain http(s) address; a key, a query or a fragment has no place in it.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise BadInput(f"{where}: not an address ({error}); write http://host:port/v1") from None
    if parts.username or parts.password:
        raise BadInput(f"{where}: a key or password stands in the address; name an environment variable in key_env")
    if parts.query or parts.fragment:
        raise BadInput(f"{where}: the address goes on after '{'?' if parts.query else '#'}'; end it with the path")
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in ("http", "https") or not host or re.search(r"\s", parts.netloc + parts.path):
        raise BadInput(f"{where}: {url!r} is no http address; write http://host:port/v1")
    host = f"[{host}]" if ":" in host else host
    shown_port = "" if port in (None, {"http": 80, "https": 443}[scheme]) else f":{port}"
    return f"{scheme}://{host}{shown_port}{parts.path.rstrip('/')}"


def clean(text: Any) -> str:
    """Return `text` without lone surrogates, which no file holds (U+FFFD stands for each); None is "".

    Raises TypeError for anything else than text.
    """
    if text is None:
        return ""
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} where text was promised")
    return whole(text)
