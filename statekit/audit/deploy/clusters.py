"""Deployment files read as YAML: compose, Kubernetes, and the platforms that count machines."""

from __future__ import annotations

import re
from collections.abc import Iterator

from statekit.audit.deploy.balancers import sticky
from statekit.audit.deploy.blocks import Entry, entries, flow
from statekit.audit.deploy.commands import amount
from statekit.audit.deploy.papers import Paper, environment

__all__ = ["compose", "yaml"]

NOT_THE_APP = re.compile(
    r"redis|valkey|postgres|mysql|maria|mongo|nginx|traefik|caddy|haproxy|rabbit|kafka|zookeeper|elastic|grafana|prometheus|celery"
    r"|flower|beat|minio|mailhog|memcached|(?<!--)worker\b(?!-class)|consumer|migrat",
    re.IGNORECASE,
)
COMMANDS = {"command", "args", "entrypoint", "startCommand", "start_command", "run_command", "cmd"}
COUNTS = (
    ("autoscaling.knative.dev/maxScale",),
    ("autoscaling.knative.dev/minScale",),
    ("replicaCount",),
    ("autoscaling", "minReplicas"),
    ("autoscaling", "maxReplicas"),
    ("numInstances",),
    ("scaling", "minInstances"),
    ("scaling", "maxInstances"),
    ("automatic_scaling", "min_instances"),
    ("automatic_scaling", "min_num_instances"),
    ("automatic_scaling", "max_instances"),
    ("manual_scaling", "instances"),
    ("instance_count",),
)
"""Keys that count copies, by the end of their path."""
REPLICATED = {"Deployment", "StatefulSet", "ReplicaSet", "Rollout"}
AUTOSCALED = (("spec", "minReplicas"), ("spec", "maxReplicas"))
STICKY_KEYS = {
    "sessionAffinity": r"^ClientIP$",
    "nginx.ingress.kubernetes.io/affinity": r"cookie",
    "nginx.ingress.kubernetes.io/upstream-hash-by": r"cookie|remote_addr|forwarded",
    "alb.ingress.kubernetes.io/target-group-attributes": r"stickiness\.enabled=true",
    "traefik.ingress.kubernetes.io/service.sticky.cookie": r"true",
    "traefik.ingress.kubernetes.io/affinity": r"true",
    "appgw.ingress.kubernetes.io/cookie-based-affinity": r"true",
    "haproxy.org/cookie-persistence": r".",
    "haproxy-ingress.github.io/affinity": r"cookie",
    "service.beta.kubernetes.io/do-loadbalancer-sticky-sessions-type": r"cookies",
    "affinityType": r"CLIENT_IP|COOKIE",
    "useSourceIp": r"true",
}
ADDRESS = {"sessionAffinity", "useSourceIp"}


def compose(paper: Paper) -> None:
    """Replicas, commands and variables of services that are the app."""
    found = list(entries(paper.text))
    others = {one.path[1] for one in found if len(one.path) > 1 and one.path[0] == "services" and _other(one)}
    for one in found:
        if len(one.path) < 3 or one.path[0] != "services":
            continue
        if one.path[2] == "labels" and "sticky" in (one.value + one.key).lower():
            _label(paper, one)
        if one.path[1] in others:
            continue
        if one.path[2:] == ("deploy", "replicas") or one.path[2:] == ("scale",):
            _pods(paper, one)
        elif one.path[2] == "environment":
            _variable(paper, one)
    _run(paper, found)
    _stickiness(paper, found)


def _other(one: Entry) -> bool:
    named = NOT_THE_APP.search(one.path[1])
    return bool(
        named
        or (one.path[2:] in (("image",), ("command",)) and NOT_THE_APP.search(one.value.partition(":")[0]))
    )


def _pods(paper: Paper, one: Entry) -> None:
    paper.say("pods", amount(one.value), one.line, f"{one.key}: {one.value}", one.key)


def _variable(paper: Paper, one: Entry) -> None:
    name, value = one.value.partition("=")[::2] if one.path[-1] == "-" else (one.key, one.value)
    environment(paper, one.line, name.strip(), value.strip())


def _label(paper: Paper, one: Entry) -> None:
    """``traefik.http.services.web.loadbalancer.sticky.cookie=true``, or any setting of that cookie; once a service."""
    text = f"{one.key}={one.value}" if one.path[-1] != "-" else one.value
    match = re.search(
        r"([\w${}-]+)\.loadbalancer\.sticky(\.cookie)?(\.name|\.secure|\.httponly|\.samesite)?\s*=\s*(\S+)",
        text,
        re.IGNORECASE,
    )
    if match and match[4].strip("\"'").lower() != "false":
        name = f"{match[1]}.loadbalancer.sticky"
        if not any(hit.place.name == name for hit in paper.hits):
            sticky(paper, one.line, name, text, cookie=True)


def _run(paper: Paper, found: list[Entry]) -> None:
    for command, line in _commands(found):
        paper.runs(command, line, "command")


def _commands(found: list[Entry]) -> Iterator[tuple[str, int]]:
    """Commands as one line each, whether they are spelt as a line or as a list."""
    lists: dict[tuple[int, tuple[str, ...], tuple[int, ...]], list[Entry]] = {}
    for one in found:
        if one.key not in COMMANDS:
            continue
        if one.path[-1] == "-":
            lists.setdefault((one.document, one.path, one.item[:-1]), []).append(one)
        elif one.value:
            yield (
                " ".join(_quoted(word) for word in flow(one.value)) if one.value[0] == "[" else one.value,
                one.line,
            )
    for parts in lists.values():
        words = [word for one in parts for word in flow(one.value)]
        yield " ".join(_quoted(word) for word in words), _asking(parts)


def _asking(parts: list[Entry]) -> int:
    """The line of the option about workers, else the first."""
    return next(
        (one.line for one in parts if "worker" in one.value or one.value.startswith("-w")), parts[0].line
    )


def _quoted(word: str) -> str:
    return f"'{word}'" if " " in word and "'" not in word else word


def yaml(paper: Paper) -> None:
    """Kubernetes manifests, Helm values, and platforms' own files; anything else says nothing here."""
    found = list(entries(paper.text))
    for number in sorted({one.document for one in found}):
        document = [one for one in found if one.document == number]
        kind = next((one.value for one in document if one.path == ("kind",)), "")
        if kind:
            _kubernetes(paper, document, kind)
        elif _known(paper.path, document):
            _platform(paper, document)
        _stickiness(paper, document)


def _known(path: str, document: list[Entry]) -> bool:
    """Whether a file without a kind is one of those that deploy something: values of a chart, a platform's own."""
    name = path.rpartition("/")[2]
    return bool(
        re.match(
            r"(values[\w.-]*|render|app|app-[\w-]+|service|railway|do-app|apprunner|zeabur)\.ya?ml$", name
        )
    ) or any(one.path[:1] == ("automatic_scaling",) for one in document)


def _kubernetes(paper: Paper, document: list[Entry], kind: str) -> None:
    name = next((one.value for one in document if one.path == ("metadata", "name")), "")
    if NOT_THE_APP.search(name):
        return
    for one in document:
        replicas = kind in REPLICATED and one.path == ("spec", "replicas")
        scaled = kind == "HorizontalPodAutoscaler" and one.path in AUTOSCALED
        if replicas or scaled or one.key.startswith("autoscaling.knative.dev/"):
            _pods(paper, one)
    _variables(paper, document)
    _run(paper, [one for one in document if not NOT_THE_APP.search(one.value)])


def _variables(paper: Paper, document: list[Entry]) -> None:
    """``- name: WEB_CONCURRENCY`` with its value on the next line."""
    named: dict[tuple[int, ...], str] = {}
    for one in document:
        if "env" in one.path and one.key == "name":
            named[one.item] = one.value
        elif "env" in one.path and one.key == "value" and one.item in named:
            environment(paper, one.line, named[one.item], one.value)


def _platform(paper: Paper, document: list[Entry]) -> None:
    for one in document:
        path = tuple(part for part in one.path if part != "-")
        if any(path[-len(end) :] == end for end in COUNTS):
            _pods(paper, one)
        if "env_variables" in path or path[-2:-1] == ("env",):
            environment(paper, one.line, one.key, one.value)
    _run(paper, document)


def _stickiness(paper: Paper, document: list[Entry]) -> None:
    for one in document:
        pattern = STICKY_KEYS.get(one.key)
        text = f"{one.key}: {one.value}"
        if pattern and re.search(pattern, one.value, re.IGNORECASE):
            sticky(paper, one.line, one.key, text, cookie=one.key not in ADDRESS)
        elif one.key == "sticky" and "loadBalancer" in one.path and one.value in ("", "true"):
            sticky(paper, one.line, "sticky", "loadBalancer.sticky", cookie=True)
        elif one.key in ("httpCookie", "httpHeaderName") and "consistentHash" in one.path:
            sticky(paper, one.line, one.key, f"consistentHash.{one.key}", cookie=True)
        elif one.key == "Key" and one.value == "stickiness.enabled":
            on = [
                it
                for it in document
                if it.key == "Value" and it.item == one.item and it.value.lower() == "true"
            ]
            if on:
                sticky(paper, one.line, "stickiness.enabled", "stickiness.enabled: true", cookie=True)
