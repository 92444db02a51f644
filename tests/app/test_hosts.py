"""The names by which the page may be reached."""

import socket

import pytest

from mm_ovseg.app.hosts import Hosts
from mm_ovseg.errors import ConfigError


@pytest.mark.parametrize("host,known,foreign", [
    ("localhost", ["localhost:1", "127.0.0.1", "[::1]:7860"], ["192.168.1.5", "example.org", "", "::1", "localhost:x"]),
    ("127.0.0.1", ["localhost"], ["127.0.0.2"]),
    ("maps.local", ["maps.local", "MAPS.local:80"], ["localhost", "127.0.0.1"]),
    ("192.168.1.5", ["192.168.1.5:7860"], ["localhost", "192.168.1.6"]),
    ("0.0.0.0", ["localhost", socket.gethostname(), "0.0.0.0"], ["example.org", "192.168.1.6"]),
    ("::", ["[::1]", socket.gethostname().upper(), "[::]:1"], ["example.org"]),
])  # fmt: skip
def test_hosts_by_what_the_page_listens_at(host, known, foreign):
    hosts = Hosts(host)
    assert [name for name in known if not hosts.knows(name, None)] == []
    assert [name for name in foreign if hosts.knows(name, None)] == []
    assert hosts.knows("10.0.0.9:7860", "10.0.0.9") and not hosts.knows("10.0.0.8", "10.0.0.9")


def test_allowed_hosts_are_known_and_their_origin_is_trusted():
    hosts = Hosts("localhost", ["Maps.example.org", "[2001:db8::1]"])
    assert hosts.knows("maps.example.org:8443", None) and hosts.knows("[2001:db8::1]", None)
    for origin in ("https://maps.example.org", "http://[2001:db8::1]:80", "http://localhost:7860"):
        assert hosts.trusts(origin, ["localhost:7860"])
    # Another program of this machine, at another port, is another site.
    for origin in (
        "http://localhost:8000",
        "http://evil.org",
        "null",
        "",
        "maps.example.org",
        "file://maps.example.org",
    ):
        assert not hosts.trusts(origin, ["localhost:7860"])


@pytest.mark.parametrize("name", ["", "*", "http://a", "a:80", "a/b", "a b", "[::1]:80"])
def test_what_is_no_host(name):
    with pytest.raises(ConfigError, match="without scheme and port"):
        Hosts("localhost", [name])
