"""Where an upstream is, what may travel there, and through which proxy."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from rolebook.core.errors import SettingError, UpstreamConnectionError
from rolebook.core.upstream import UpstreamSettings

_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


def check_settings(settings: UpstreamSettings) -> None:
    """Raises SettingError for a base URL or a proxy that cannot be one."""
    url = _split(settings.base_url)
    if url is None or url.scheme not in ("http", "https"):
        raise SettingError(
            "The base URL of the upstream %(upstream)s must be an http or https address such as "
            "https://api.openai.com/v1, got %(value)s.",
            upstream=settings.name,
            value=shown_url(settings.base_url),
        )
    if url.username is not None or url.query or url.fragment:
        raise SettingError(
            "The base URL of the upstream %(upstream)s must hold no user name, password, query or fragment. "
            "Keys belong into its keys.",
            upstream=settings.name,
        )
    if settings.proxy and not is_proxy(settings.proxy):
        raise SettingError(
            "The proxy of the upstream %(upstream)s must be an http, https, socks5 or socks5h address such as "
            "http://127.0.0.1:3128, got %(value)s.",
            upstream=settings.name,
            value=shown_url(settings.proxy),
        )


def _split(url: str) -> SplitResult | None:
    """The parts of a URL that has a host that can be looked up and, if any, a real port."""
    try:
        parts = urlsplit(url)
        is_sound = parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:
        return None
    return parts if is_sound and _is_host(parts.hostname or "") else None


def _is_host(name: str) -> bool:
    """Whether it is an address of numbers, or a name whose parts are as long as they may be."""
    if name.replace(".", "").isdigit():
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            return False
    return all(0 < len(part) < 64 for part in name.removesuffix(".").split("."))


def shown_url(url: str) -> str:
    """A URL as it may be shown: without what stands before the @."""
    return repr(url.rpartition("@")[2] if "@" in url else url)


def host_of(base_url: str) -> str:
    """The host in lower case, empty if there is none."""
    parts = _split(base_url)
    return (parts.hostname or "").lower() if parts else ""


@lru_cache
def is_loopback(base_url: str) -> bool:
    """Whether the address is on this computer, or, by its reserved name, nowhere (RFC 6761)."""
    host = host_of(base_url)
    if host == "localhost" or host.endswith((".localhost", ".invalid")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_openai(base_url: str) -> bool:
    """Whether it is OpenAI itself, which answers nothing without a key."""
    host = host_of(base_url)
    return host == "openai.com" or host.endswith(".openai.com")


def is_proxy(url: str) -> bool:
    """Whether ``url`` can be the address of a proxy."""
    parts = _split(url)
    return parts is not None and parts.scheme in _PROXY_SCHEMES


def password_of(proxy: str) -> str:
    """The secret in a proxy's address."""
    parts = _split(proxy)
    return (parts.password or "") if parts else ""


def proxy_for(settings: UpstreamSettings) -> str:
    """The proxy that calls to this upstream go through, or empty.

    Its own, else that of the environment (``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, less ``NO_PROXY``), which
    never gets between us and this computer. Raises UpstreamConnectionError for a broken one.
    """
    if settings.proxy or is_loopback(settings.base_url):
        return settings.proxy
    import urllib.request  # It takes a few milliseconds, and a local upstream does not need it.

    host = host_of(settings.base_url)
    proxies = dict(settings.environment_proxies) or urllib.request.getproxies()
    proxy = proxies.get(urlsplit(settings.base_url).scheme) or proxies.get("all") or ""
    # It is as old as proxy_bypass, but typeshed does not know it.
    is_direct = urllib.request.proxy_bypass_environment(host, proxies)  # type: ignore[attr-defined]
    if not proxy or is_direct:
        return ""
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not is_proxy(proxy):
        raise UpstreamConnectionError(
            "The proxy %(proxy)s, which the environment names for %(upstream)s, is not an http, https, socks5 or "
            "socks5h address. Correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY.",
            proxy=shown_url(proxy),
        )
    return proxy
