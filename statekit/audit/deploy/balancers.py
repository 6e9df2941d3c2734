"""What sends a visitor back to the same process: nginx, HAProxy, Apache, Caddy, Traefik, Terraform."""

from __future__ import annotations

import re
from collections.abc import Iterator

from statekit.audit.deploy.found import Hit, Place
from statekit.audit.deploy.papers import Paper
from statekit.audit.deploy.running import Said

__all__ = ["BALANCERS", "sticky"]

BY_VISITOR = re.compile(
    r"\$(cookie_\w+|remote_addr|binary_remote_addr|http_x_forwarded_for|proxy_protocol_addr|realip_remote_addr|http_x_real_ip|arg_(sid|session\w*)|http_authorization|jsessionid\w*)"
)


def sticky(paper: Paper, line: int, name: str, spelt: str, *, cookie: bool) -> None:
    """Note a dependency on stickiness, which is a finding of its own."""
    text = " ".join(spelt.split())[:80]
    paper.said.append(Said("sticky", 1, paper.path, line, text))
    why = (
        f"`{text}` sends each visitor back to the same process, so the app may rely on what that process remembers: "
        "when it is replaced, all its visitors lose it"
    )
    code = (
        f"StateKit.connect(REDIS_URL).sessions()  # what the processes remember, shared; then `{name}` can go"
    )
    paper.hits.append(
        Hit("SK551" if cookie else "SK550", Place(paper.path, line, name), why, code, evidence=(text,))
    )


def _statements(paper: Paper) -> Iterator[tuple[int, str]]:
    """Lines without comments, with what ends in ``;`` or a brace one at a time."""
    for number, line in enumerate(paper.text.splitlines(), 1):
        for one in re.split(r"[;{}]", _bare(line)):
            if one.strip():
                yield number, one.strip()


def _bare(line: str) -> str:
    """A line without its comment; a ``#`` inside quotes begins none."""
    quote = ""
    for at, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "#" and (at == 0 or line[at - 1].isspace() or line[at - 1] in ";{}"):
            return line[:at]
    return line


def _servers(paper: Paper, count: int, line: int, text: str) -> None:
    """How many servers stand behind a name so far; what was said of them one server ago no longer counts."""
    paper.said = [one for one in paper.said if one.line != line or one.what != "pods"]
    paper.say("pods", count if count > 1 else None, line, text)


def nginx(paper: Paper) -> None:
    """``ip_hash``, ``hash`` of what names a visitor, ``sticky``; and how many servers stand behind a name."""
    inside, begun, count = "", 0, 0
    for number, line in _statements(paper):
        word, _, rest = line.partition(" ")
        if word == "upstream":
            inside, count = rest.strip(), 0
        elif word in ("location", "map", "http", "events", "listen", "server_name"):
            inside = ""
        elif word == "server" and inside and rest.strip() and "backup" not in rest.split():
            count += 1
            begun = number if count == 1 else begun
            _servers(paper, count, begun, f"upstream {inside}: {count} servers")
        elif word == "ip_hash":
            sticky(paper, number, "ip_hash", "ip_hash", cookie=False)
        elif word == "hash" and BY_VISITOR.search(rest):
            sticky(paper, number, "hash", line, cookie="cookie" in rest)
        elif (
            word == "sticky"
            and rest.split()[:1]
            and rest.split()[0] in ("cookie", "route", "learn", "name=route", "on")
        ):
            sticky(paper, number, "sticky", line, cookie=True)


def haproxy(paper: Paper) -> None:
    """``cookie … insert``, ``balance source``, ``stick on``; a stick table alone may only count."""
    servers: dict[str, int] = {}
    begun: dict[str, int] = {}
    backend = ""
    for number, line in _statements(paper):
        words = line.split()
        if words[0] in ("backend", "listen", "frontend", "defaults", "global"):
            backend = words[1] if len(words) > 1 else ""
        elif words[0] == "server" and backend:
            servers[backend] = servers.get(backend, 0) + 1
            begun.setdefault(backend, number)
            count = servers[backend]
            _servers(paper, count, begun[backend], f"backend {backend}: {count} servers")
        elif words[0] == "cookie" and {"insert", "prefix", "rewrite", "indirect"} & set(words):
            sticky(paper, number, "cookie", line, cookie=True)
        elif line.startswith(("balance source", "balance rdp-cookie", "balance hdr(", "hash-type source")):
            sticky(paper, number, "balance", line, cookie=False)
        elif (
            words[0] == "stick"
            and words[1:2]
            and words[1] in ("on", "match", "store-request", "store-response")
        ):
            sticky(paper, number, "stick", line, cookie="cookie" in line)


def apache(paper: Paper) -> None:
    """``stickysession`` of a balancer."""
    for number, line in _statements(paper):
        if re.search(r"\bstickysession\s*=", line, re.IGNORECASE):
            sticky(paper, number, "stickysession", line, cookie=True)


def caddy(paper: Paper) -> None:
    """``lb_policy`` by address, cookie or header; several upstreams."""
    for number, line in _statements(paper):
        words = line.split()
        if (
            words[0] == "lb_policy"
            and words[1:2]
            and words[1] in ("ip_hash", "client_ip_hash", "cookie", "header")
        ):
            sticky(paper, number, "lb_policy", line, cookie=words[1] in ("cookie", "header"))
        elif words[0] == "reverse_proxy":
            upstreams = [one for one in words[1:] if re.search(r":\d+$", one)]
            paper.say("pods", len(upstreams) if len(upstreams) > 1 else None, number, line)


def terraform(paper: Paper) -> None:
    """``stickiness`` of a target group, ``session_affinity`` of a backend, and counts of services."""
    inside, enabled = 0, True
    for number, raw in enumerate(paper.text.splitlines(), 1):
        line = re.split(r"\s#|\s//", raw, maxsplit=1)[0].strip()
        if line.startswith(("#", "//")) or not line:
            continue
        if re.match(r"stickiness\s*\{", line):
            inside, enabled = number, "false" not in line
        elif inside and re.match(r"enabled\s*=\s*false", line):
            enabled = False
        if inside and line.endswith("}"):
            if enabled:
                sticky(paper, inside, "stickiness", "stickiness", cookie=True)
            inside = 0
        affinity = re.match(
            r"session_affinity\s*=\s*\"(CLIENT_IP\w*|GENERATED_COOKIE|HTTP_COOKIE|COOKIES?)\"", line
        )
        if affinity:
            sticky(paper, number, "session_affinity", line, cookie="COOKIE" in affinity[1])
        count = re.match(r"(desired_count|replicas|min_instance_count|max_instance_count)\s*=\s*(\d+)$", line)
        if count:
            paper.say("pods", int(count[2]), number, line, count[1])


def traefik(paper: Paper) -> None:
    """``[http.services.app.loadBalancer.sticky.cookie]`` in TOML."""
    for number, line in enumerate(paper.text.splitlines(), 1):
        if re.match(r"\s*\[[\w.\"-]*loadBalancer\.sticky[\w.]*\]", line, re.IGNORECASE):
            sticky(paper, number, "sticky", line.strip(), cookie=True)
            return


BALANCERS = {
    "nginx": nginx,
    "haproxy": haproxy,
    "apache": apache,
    "caddy": caddy,
    "terraform": terraform,
    "toml": traefik,
}
