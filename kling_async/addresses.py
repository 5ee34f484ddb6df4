"""Which addresses and URLs a download may use. Pure: literals in, verdicts out."""

import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from kling_async.errors import DownloadError, bounded

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 6890 and its registry, spelled out: `is_global` differs between Python versions.
_NETWORKS = """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24
    203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
    ::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8
"""
_CLOSED = tuple(ipaddress.ip_network(text) for text in _NETWORKS.split())
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def embedded(address: Address) -> Address | None:
    """Return the IPv4 address inside an IPv6 one: mapped, 6to4 or NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def is_public(text: str) -> bool:
    """Tell whether an IP address, as the socket will use it, is on the public internet."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    inner = embedded(address)
    if inner is not None:
        return is_public(str(inner))
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return not any(address.version == network.version and address in network for network in _CLOSED)


def is_private_host(host: str) -> bool:
    """Tell by its name alone that a host is not on the public internet, or that its name hides an address."""
    plain = re.sub("[\u3002\uff0e\uff61]", ".", host)  # what names of other scripts have for a dot
    name = unicodedata.normalize("NFKC", plain).rstrip(".").lower()
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        hidden = name.isascii() and _odd_host(name)
        return hidden or "." not in name or name.endswith((".localhost", ".local", ".internal"))
    return not is_public(name)


def checked_url(url: str) -> SplitResult:
    """Return the parts of a URL that may be fetched: http or https, with a host, without credentials.

    Raises `DownloadError` (blocked) for anything else.
    """
    problem = None
    parts = SplitResult("", "", "", "", "")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        problem = "cannot be parsed"
    else:
        if parts.scheme not in ("http", "https"):
            problem = f"has the scheme {bounded(parts.scheme, 20)!r}"
        elif not parts.hostname or port == 0 or max(map(len, parts.hostname.split("."))) > 63:
            problem = "names no host"
        elif "@" in parts.netloc:
            problem = "holds credentials"
        elif "\\" in url or not url.isprintable() or " " in url or len(url) > 8192:
            problem = "holds characters that do not belong in a URL"
        elif _odd_host(parts.hostname):
            problem = "names its host in a way that hides the address"
    if problem:
        raise DownloadError(f"the video's URL {problem}", code="blocked", stage="download")
    return parts


def _odd_host(host: str) -> bool:
    """Tell whether a host is a number in disguise: decimal, octal, hexadecimal, short or full-width."""
    if not host.isascii():
        return True
    last = host.rstrip(".").rpartition(".")[2]
    if not last or not (last.isdigit() or last.lower().startswith("0x")):
        return False
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return True
    return False


def origin_of(parts: SplitResult) -> tuple[str, int]:
    """Return the host in lower case and the port, with the scheme's default."""
    return (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def allows(parts: SplitResult, hosts: Iterable[str], base_url: str) -> bool:
    """Tell whether the user allowed a host to be private: by name, or as the host and port of `base_url`."""
    host, port = origin_of(parts)
    shown = f"[{host}]" if ":" in host else host
    if (host, port) == origin_of(urlsplit(base_url)):
        return True
    return any(entry in (host, shown, f"{host}:{port}", f"{shown}:{port}") for entry in hosts)
