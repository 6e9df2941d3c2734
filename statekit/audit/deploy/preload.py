"""Preloading: clients that connect when they are made, made before the workers are forked. And servers started in Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from statekit.audit.catalogue import Names
from statekit.audit.deploy.found import Hit, Place
from statekit.audit.deploy.ground import Ground, developing
from statekit.audit.deploy.look import Module, followed
from statekit.audit.deploy.names import offstage
from statekit.audit.deploy.options import options
from statekit.audit.deploy.papers import Paper, counted
from statekit.audit.deploy.running import Said
from statekit.audit.facts import Binding, FileFacts
from statekit.audit.model import Confidence, Severity, Site

__all__ = ["preload_hits", "started_in_python"]

CONNECTING = Names(
    [
        "psycopg2.connect",
        "psycopg.connect",
        "pymysql.connect",
        "MySQLdb.connect",
        "mysql.connector.connect",
        "sqlite3.connect",
        "pymssql.connect",
        "pyodbc.connect",
        "duckdb.connect",
        "MongoClient",
        "grpc.insecure_channel",
        "grpc.secure_channel",
        "KafkaProducer",
        "KafkaConsumer",
        "pika.BlockingConnection",
        "psycopg_pool.ConnectionPool",
        "SimpleConnectionPool",
        "ThreadedConnectionPool",
        "PooledDB",
        "cassandra.cluster.Cluster",
        "smtplib.SMTP",
        "ldap3.Connection",
        "zmq.Context",
        "paho.mqtt.client.Client",
        "paramiko.SSHClient",
        "stomp.Connection",
        "MySQLConnectionPool",
        "cx_Oracle.SessionPool",
        "oracledb.create_pool",
        "GraphDatabase.driver",
        "ftplib.FTP",
        "telnetlib.Telnet",
    ]
)
"""What has a socket or a thread as soon as it is made; other clients connect when first used."""
SERVED = re.compile(
    r"(^|\.)(uvicorn\.run|hypercorn\.run|app\.run|granian\.Granian|Granian|uvicorn\.Config|server\.run)$"
)
MOST_NAMED = 3


def preload_hits(ground: Ground) -> Iterator[Hit]:
    """One finding for each file that preloads, with the clients that are made too early."""
    preload = ground.running.preload
    if preload is None or (ground.running.workers or 2) < 2:
        return
    early = [(facts, one) for facts in ground.files if not offstage(facts.path) for one in _clients(facts)]
    if early:
        yield _hit(ground, preload, early)


def _clients(facts: FileFacts) -> Iterator[Binding]:
    for one in facts.bindings:
        made = one.value.kind == "call" and not one.under
        if made and followed(one.value.text, facts) in CONNECTING:
            yield one


def _hit(ground: Ground, preload: Said, early: list[tuple[FileFacts, Binding]]) -> Hit:
    names = ", ".join(f"`{one.name}` ({facts.path}:{one.line})" for facts, one in early[:MOST_NAMED])
    more = f" and {len(early) - MOST_NAMED} more" if len(early) > MOST_NAMED else ""
    forked = ground.running.most("forked")
    name = preload.text.partition(" ")[0] if "lazy" not in preload.text else "lazy-apps"
    why = f"`{preload.text}` imports the app before the workers are forked, and {names}{more} connect at import: all workers share one connection and read each other's answers"
    first = early[0][1].name
    return Hit(
        "SK350",
        Place(preload.path, preload.line, name),
        why,
        f"def {first}():  # made when first needed, in each worker: @functools.cache\n    return {early[0][1].value.text}(...)\n# or: kit.pools.register({first!r}, ...)",
        Confidence.MEDIUM if forked else Confidence.HIGH,
        severity=Severity.WARNING if forked else None,
        evidence=(f"{forked.where} has a hook that may connect again",) if forked else (),
        sites=tuple(Site(facts.path, one.line) for facts, one in early),
    )


def started_in_python(ground: Ground) -> Iterator[Paper]:
    """``uvicorn.run(…, workers=4)`` and its like, as what a deployment file would say."""
    for module in ground.modules:
        for one in module.calls:
            value = one.keyword("workers", "processes")
            if value is not None and SERVED.search(one.callee) and not developing(one):
                paper = Paper(module.path, module.text)
                number = max(_numbers(module, value), default=None)
                paper.say("workers", number, value.lineno, f"{one.spelt}(workers={number})", "workers")
                yield paper


def _numbers(module: Module, value: ast.expr) -> Iterator[int]:
    for option in options(module, value):
        number = counted(option.node, {}) if option.node is not None else None
        if number:
            yield number
