"""Deployment files: what each says about processes and pods, and the dependency on stickiness."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from statekit.audit.deploy.blocks import entries
from statekit.audit.deploy.commands import asked_by
from statekit.audit.deploy.entry import deployment
from statekit.audit.deploy.names import wanted
from statekit.audit.model import Category, Severity
from tests.audit.deploying import deployed, told

SAID: dict[str, tuple[str, str, list[tuple[str, int, int]]]] = {
    "gunicorn's file": (
        "gunicorn.conf.py",
        """
        import multiprocessing
        bind = "0.0.0.0:8000"
        workers = multiprocessing.cpu_count() * 2 + 1
        threads = 8
        preload_app = True
        """,
        [("workers", 2, 3), ("threads", 8, 4), ("preload", 1, 5)],
    ),
    "gunicorn's file, with a default": (
        "deploy/gunicorn_config.py",
        'import os\nworkers = int(os.environ.get("WEB_CONCURRENCY", 4))\n',
        [("workers", 4, 2)],
    ),
    "a name for the number": ("gunicorn.conf.py", "N = 3\nworkers = N\n", [("workers", 3, 2)]),
    "numbers under a condition": (
        "gunicorn.conf.py",
        "import platform\nif platform.system() == 'Darwin':\n    workers = 1\nelse:\n    workers = 4\n",
        [("workers", 1, 3), ("workers", 4, 5)],
    ),
    "nothing that can be told": ("gunicorn.conf.py", "workers = settings.workers\npreload_app = False\n", []),
    "a Procfile": ("Procfile", "release: ./manage.py migrate\nweb: gunicorn -w 4 --threads=2 app:app\n", [("workers", 4, 2), ("threads", 2, 2)]),
    "a Procfile's comment": ("Procfile", "# web: gunicorn -w 4 app:app\nweb: gunicorn app:app\n", []),
    "a Dockerfile, as a list": ("Dockerfile", 'FROM python\nCMD ["gunicorn", "--workers", "3", "--preload", "app:app"]\n', [("workers", 3, 2), ("preload", 1, 2)]),
    "a Dockerfile, as a line": ("Dockerfile", "FROM python\nENV WEB_CONCURRENCY=5\nCMD exec uvicorn app:app \\\n    --workers 2\n", [("workers", 5, 2), ("workers", 2, 3)]),
    "a Dockerfile, in a shell": ("Dockerfile", 'CMD ["sh", "-c", "migrate && gunicorn -w ${WORKERS:-6} app:app"]\n', [("workers", 6, 1)]),
    "a Dockerfile's comment": ("Dockerfile", "# CMD gunicorn -w 9 app:app\nCMD gunicorn app:app\n", []),
    "compose": (
        "docker-compose.yml",
        """
        services:
          web:
            image: shop
            command: gunicorn -w 4 shop:app   # -w 9 was too many
            environment:
              - WEB_CONCURRENCY=4
            deploy:
              replicas: 3
          worker:
            command: celery -A shop worker
            deploy:
              replicas: 8
          redis:
            image: redis:7
            deploy: {replicas: 5}
        """,
        [("workers", 4, 6), ("pods", 3, 8), ("workers", 4, 4)],
    ),
    "compose, as a list": ("compose.yaml", 'services:\n  web:\n    command: ["uvicorn", "app:app", "--workers", "2"]\n', [("workers", 2, 3)]),
    "a Kubernetes manifest": (
        "k8s/web.yaml",
        """
        apiVersion: v1
        kind: Service
        metadata:
          name: web
        ---
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: web}
        spec:
          replicas: 4  # one for each zone
          template:
            spec:
              containers:
              - name: web
                args:
                - gunicorn
                - --workers
                - "2"
                env:
                - name: WEB_CONCURRENCY
                  value: "2"
        ---
        kind: HorizontalPodAutoscaler
        spec:
          minReplicas: 2
          maxReplicas: 10
        """,
        [("pods", 4, 10), ("workers", 2, 21), ("workers", 2, 17), ("pods", 2, 25), ("pods", 10, 26)],
    ),
    "a worker's manifest": ("k8s/worker.yaml", "kind: Deployment\nmetadata:\n  name: celery-worker\nspec:\n  replicas: 4\n", []),
    "a chart's values": ("chart/values.yaml", "replicaCount: 3\nautoscaling:\n  minReplicas: 2\n", [("pods", 3, 1), ("pods", 2, 3)]),
    "a chart's template": ("chart/deployment.yaml", "kind: Deployment\nspec:\n  replicas: {{ .Values.replicaCount }}\n", []),
    "somebody else's YAML": ("mkdocs.yml", "nav:\n  replicaCount: 3\n  command: gunicorn -w 4\n", []),
    "App Engine": ("app.yaml", "runtime: python312\nentrypoint: gunicorn -w 2 main:app\nautomatic_scaling:\n  max_instances: 20\n", [("pods", 20, 4), ("workers", 2, 2)]),
    "Render": ("render.yaml", "services:\n- type: web\n  numInstances: 3\n  startCommand: uvicorn app:app --workers 2\n", [("pods", 3, 3), ("workers", 2, 4)]),
    "Fly": ("fly.toml", '[http_service]\nmin_machines_running = 2\n[processes]\napp = "gunicorn -w 3 app:app"\n', [("workers", 3, 4), ("pods", 2, 2)]),
    "a unit": ("deploy/shop.service", "[Service]\nEnvironment=WEB_CONCURRENCY=3\nExecStart=/srv/bin/gunicorn -w 4 shop:app\n", [("workers", 3, 2), ("workers", 4, 3)]),
    "supervisor": ("supervisord.conf", "[program:shop]\ncommand=daphne -p 80%(process_num)02d shop:app\nnumprocs=4\n[program:mail]\ncommand=celery worker\nnumprocs=9\n", [("workers", 4, 3)]),
    "uWSGI": ("uwsgi.ini", "[uwsgi]\nmodule = shop\nprocesses = 4\nlazy-apps = true\n", [("workers", 4, 3)]),
    "uWSGI, not lazy": ("uwsgi.ini", "[uwsgi]\n; processes = 9\nprocesses = 4\nthreads = 2\n", [("workers", 4, 3), ("threads", 2, 4), ("preload", 1, 3)]),
    "a script": ("docker-entrypoint.sh", "#!/bin/sh\nset -e\n# gunicorn -w 9 app:app\nexport WEB_CONCURRENCY=3\nexec gunicorn -w $(nproc) app:app\n", [("workers", 3, 4), ("workers", 2, 5)]),
    "servers behind a name": ("nginx.conf", "upstream app {\n  server a:80;\n  server b:80;\n  server c:80;\n  server d:80 backup;\n}\n", [("pods", 3, 2)]),
    "servers behind HAProxy": ("haproxy.cfg", "backend app\n  server a a:80\n  server b b:80\n  server c c:80\n", [("pods", 3, 2)]),
    "Terraform": ("main.tf", 'resource "aws_ecs_service" "web" {\n  desired_count = 3\n}\n', [("pods", 3, 2)]),
}  # fmt: skip

STICKY: dict[str, tuple[str, str, list[str]]] = {
    "nginx, by address": ("nginx.conf", "upstream app {\n  ip_hash;\n  server a;\n}\n", ["SK550 nginx.conf:2 ip_hash high"]),
    "nginx, on one line": ("nginx/app.conf", "upstream app { ip_hash; server a; }\n", ["SK550 nginx/app.conf:1 ip_hash high"]),
    "nginx, by a hash of the visitor": ("nginx.conf", "upstream a {\n hash $cookie_sessionid consistent;\n}\n", ["SK551 nginx.conf:2 hash high"]),
    "nginx, with a cookie": ("nginx.conf", "upstream a {\n sticky cookie srv expires=1h;\n}\n", ["SK551 nginx.conf:2 sticky high"]),
    "HAProxy's cookie": ("haproxy.cfg", "backend a\n  cookie SERVERID insert indirect nocache\n", ["SK551 haproxy.cfg:2 cookie high"]),
    "HAProxy, by source": ("haproxy.cfg", "backend a\n  balance source\n", ["SK550 haproxy.cfg:2 balance high"]),
    "HAProxy's table": ("haproxy.cfg", "backend a\n  stick-table type ip size 1m\n  stick on src\n", ["SK550 haproxy.cfg:3 stick high"]),
    "Apache": ("apache.conf", "ProxyPass / balancer://app/ stickysession=ROUTEID\n", ["SK551 apache.conf:1 stickysession high"]),
    "Caddy": ("Caddyfile", "shop.example {\n reverse_proxy a:80 b:80 {\n  lb_policy cookie\n }\n}\n", ["SK551 Caddyfile:3 lb_policy high"]),
    "a Service": ("k8s/web.yaml", "kind: Service\nspec:\n  sessionAffinity: ClientIP\n", ["SK550 k8s/web.yaml:3 sessionAffinity high"]),
    "an Ingress": (
        "ingress.yml",
        'kind: Ingress\nmetadata:\n  annotations:\n    nginx.ingress.kubernetes.io/affinity: "cookie"\n',
        ["SK551 ingress.yml:4 nginx.ingress.kubernetes.io/affinity high"],
    ),
    "a load balancer of Amazon's": (
        "ingress.yml",
        "kind: Ingress\nmetadata:\n  annotations:\n    alb.ingress.kubernetes.io/target-group-attributes: stickiness.enabled=true,stickiness.type=lb_cookie\n",
        ["SK551 ingress.yml:4 alb.ingress.kubernetes.io/target-group-attributes high"],
    ),
    "Traefik's label": (
        "compose.yml",
        "services:\n  web:\n    labels:\n      - traefik.http.services.web.loadbalancer.sticky.cookie=true\n",
        ["SK551 compose.yml:4 web.loadbalancer.sticky high"],
    ),
    "Traefik's labels, once a service": (
        "compose.yml",
        """
        services:
          web:
            labels:
              - "traefik.http.services.web.loadbalancer.sticky.cookie.name=lb"
              - "traefik.http.services.web.loadbalancer.sticky.cookie.secure=true"
              - "traefik.http.services.api.loadbalancer.sticky.cookie={}"
        """,
        ["SK551 compose.yml:4 web.loadbalancer.sticky high", "SK551 compose.yml:6 api.loadbalancer.sticky high"],
    ),
    "Traefik's labels, as a mapping": (
        "compose.yml",
        "services:\n  web:\n    labels:\n      traefik.http.services.web.loadBalancer.sticky.cookie: 'true'\n",
        ["SK551 compose.yml:4 web.loadbalancer.sticky high"],
    ),
    "Traefik's file": ("traefik.toml", "[http.services.web.loadBalancer.sticky.cookie]\n  name = 'lb'\n", ["SK551 traefik.toml:1 sticky high"]),
    "Terraform": ("lb.tf", 'resource x y {\n  stickiness {\n    type = "lb_cookie"\n  }\n}\n', ["SK551 lb.tf:2 stickiness high"]),
    "CloudFormation": ("stack.yaml", "Resources:\n  Group:\n    Properties:\n      TargetGroupAttributes:\n        - Key: stickiness.enabled\n          Value: true\n", ["SK551 stack.yaml:5 stickiness.enabled high"]),
}  # fmt: skip

NOT_STICKY: dict[str, tuple[str, str]] = {
    "a comment": ("nginx.conf", "upstream app {\n  # ip_hash;\n  server a;  # was: ip_hash;\n}\n"),
    "a hash of the page": ("nginx.conf", "upstream app {\n  hash $request_uri consistent;\n}\n"),
    "text": ("nginx.conf", 'add_header X-Note "ip_hash; is gone";\n'),
    "a table that counts": ("haproxy.cfg", "frontend f\n  stick-table type ip size 1m store http_req_rate(10s)\n  http-request track-sc0 src\n"),
    "round robin": ("haproxy.cfg", "backend a\n  balance roundrobin\n  # cookie SERVERID insert\n"),
    "no affinity": ("k8s/web.yaml", "kind: Service\nspec:\n  sessionAffinity: None\n  # sessionAffinity: ClientIP\n"),
    "switched off": ("lb.tf", 'stickiness {\n  enabled = false\n  type = "lb_cookie"\n}\n'),
    "a developer's own": ("nginx/dev.conf", "upstream a { ip_hash; }\n"),
    "a label that says no": (
        "compose.yml",
        "services:\n  web:\n    labels:\n      - traefik.http.services.web.loadbalancer.sticky=false\n",
    ),
    "what overrides compose for one developer": (
        "docker-compose.override.yml",
        "services:\n  web:\n    labels:\n      - traefik.http.services.web.loadbalancer.sticky=true\n",
    ),
    "in a block of text": ("k8s/notes.yaml", "kind: ConfigMap\ndata:\n  notes: |\n    sessionAffinity: ClientIP\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_what_is_said(case: str, tmp_path: Path) -> None:
    path, text, expected = SAID[case]
    facts = deployed(tmp_path, {path: text}).facts
    assert [(one.what, one.number, one.line) for one in facts.said] == expected


@pytest.mark.parametrize("case", STICKY)
def test_sticky(case: str, tmp_path: Path) -> None:
    path, text, expected = STICKY[case]
    found = deployed(tmp_path, {path: text})
    assert told(tmp_path, {path: text}) == expected
    assert all(one.category is Category.SESSION_STORE for one in found.findings)
    assert "sticky" in {one.what for one in found.facts.said}


@pytest.mark.parametrize("case", NOT_STICKY)
def test_not_sticky(case: str, tmp_path: Path) -> None:
    path, text = NOT_STICKY[case]
    assert told(tmp_path, {path: text}) == []


def test_one_worker_because_of_state(tmp_path: Path) -> None:
    files = {
        "gunicorn.conf.py": "# the rate limits are in memory:\n# more than one would not share them\nworkers = 1\n"
    }
    (one,) = deployed(tmp_path, files).findings
    assert (one.rule, one.line, one.name, one.severity) == ("SK1210", 3, "workers", Severity.NOTE)
    assert "in memory" in one.why


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("Dockerfile", "# one worker: sessions live in memory\nCMD gunicorn -w 1 app:app\n", ["CMD"]),
        ("k8s/web.yaml", "kind: Deployment\nspec:\n  replicas: 1  # sqlite\n", ["replicas"]),
        (
            "compose.yml",
            "services:\n  web:\n    # websockets are not shared\n    command: gunicorn -w 1 a:a\n",
            ["command"],
        ),
        (
            "main.py",
            "import uvicorn\nuvicorn.run(\n    'app:app',\n    workers=1,  # rooms live in memory\n)\n",
            ["workers"],
        ),
        ("gunicorn.conf.py", "workers = 1  # one, or the scheduler runs twice\n", ["workers"]),
        ("gunicorn.conf.py", "# cheap machine\nworkers = 1\n", []),
        ("gunicorn.conf.py", "workers = 1  # the small machine has little memory\n", []),
        ("gunicorn.conf.py", "# sessions are shared since May\n\nworkers = 1\n", []),
        ("gunicorn.conf.py", "# the cache is shared\nworkers = 4\n", []),
    ],
)
def test_a_comment_beside_a_one(path: str, text: str, found: list[str], tmp_path: Path) -> None:
    assert [one.name for one in deployed(tmp_path, {path: text}).findings] == found


CLIENTS = (
    "import psycopg2\nfrom pymongo import MongoClient\ndb = psycopg2.connect(URL)\nmongo = MongoClient()\n"
)


def test_preloaded_clients(tmp_path: Path) -> None:
    files = {"gunicorn.conf.py": "workers = 4\npreload_app = True\n", "shop/db.py": CLIENTS}
    (one,) = deployed(tmp_path, files).findings
    assert (one.rule, one.category, one.line, one.name) == ("SK350", Category.CLIENT_POOL, 2, "preload_app")
    assert "`db` (shop/db.py:3), `mongo` (shop/db.py:4)" in one.why
    assert [(site.path, site.line) for site in one.writes] == [("shop/db.py", 3), ("shop/db.py", 4)]


@pytest.mark.parametrize(
    "files",
    [
        {"gunicorn.conf.py": "workers = 4\n", "shop/db.py": CLIENTS},
        {"gunicorn.conf.py": "workers = 1\npreload_app = True\n", "shop/db.py": CLIENTS},
        {"gunicorn.conf.py": "workers = 4\npreload_app = True\n", "db.py": "import httpx\nclient = httpx.Client()\n"},
        {"gunicorn.conf.py": "workers = 4\npreload_app = True\n", "db.py": "import psycopg2\ndef connect():\n    return psycopg2.connect(URL)\n"},
        {"uwsgi.ini": "[uwsgi]\nprocesses = 4\nlazy-apps = true\n", "shop/db.py": CLIENTS},
    ],
)  # fmt: skip
def test_clients_that_are_safe(files: dict[str, str], tmp_path: Path) -> None:
    assert told(tmp_path, files) == []


def test_a_hook_after_the_fork_makes_it_less_certain(tmp_path: Path) -> None:
    hook = "workers = 4\npreload_app = True\ndef post_fork(server, worker):\n    connect()\n"
    assert told(tmp_path, {"gunicorn.conf.py": hook, "shop/db.py": CLIENTS}) == [
        "SK350 gunicorn.conf.py:2 preload_app medium"
    ]


def test_several_and_single(tmp_path: Path) -> None:
    several = deployed(tmp_path / "a", {"Procfile": "web: gunicorn -w 4 a:a\n"}).facts
    single = deployed(tmp_path / "b", {"Procfile": "web: gunicorn -w 1 a:a\n"}).facts
    pods = deployed(
        tmp_path / "c",
        {"Procfile": "web: gunicorn -w 1 a:a\n", "k8s.yaml": "kind: Deployment\nspec:\n  replicas: 2\n"},
    ).facts
    nothing = deployed(tmp_path / "d", {"README.md": "gunicorn -w 4\n"}).facts
    assert [(one.several, one.single) for one in (several, single, pods, nothing)] == [
        (True, False), (False, True), (True, False), (False, False),
    ]  # fmt: skip
    assert pods.why == "k8s.yaml:3 starts several pods (`replicas: 2`)"


def test_servers_started_in_python(tmp_path: Path) -> None:
    facts = deployed(tmp_path, {"main.py": "import uvicorn\nuvicorn.run('app:app', workers=4)\n"}).facts
    assert [(one.what, one.number, one.where) for one in facts.said] == [("workers", 4, "main.py:2")]


def test_only_the_files_named_are_read(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: gunicorn -w 4 a:a\n")
    (tmp_path / "elsewhere").write_text("web: gunicorn -w 7 a:a\n")
    assert deployment(tmp_path, [], []).facts.said == ()
    assert deployment(tmp_path, [], ["Procfile", "gone/Procfile"]).facts.workers == 4
    assert deployment(tmp_path, [], [("Procfile", str(tmp_path / "elsewhere"))]).facts.workers == 7


def test_which_files_are_wanted() -> None:
    yes = "Procfile deploy/Dockerfile api.Dockerfile docker-compose.prod.yml k8s/web.yaml gunicorn.conf.py nginx/app.conf fly.toml lb.tf uwsgi.ini a.service"
    no = "app.py README.md nginx.py package.json Dockerfile.md static/nginx.png setup.cfg pyproject.toml nginx.conf.j2"
    assert [one for one in yes.split() if not wanted(one)] == []
    assert [one for one in no.split() if wanted(one)] == []


@pytest.mark.parametrize(
    "junk", ["\x00\xff", "{{ if }}\n  - : :\n\t- x", "a: &b\n  <<: *b\n", "[" * 200, "x: |\n", "- - - a: 1\n"]
)
@pytest.mark.parametrize(
    "path",
    [
        "Procfile",
        "Dockerfile",
        "compose.yml",
        "k8s.yaml",
        "nginx.conf",
        "haproxy.cfg",
        "fly.toml",
        "uwsgi.ini",
        "gunicorn.conf.py",
        "lb.tf",
        "a.service",
    ],
)
def test_nonsense_says_nothing(path: str, junk: str, tmp_path: Path) -> None:
    assert told(tmp_path, {path: junk}) == []


def test_the_reader_of_yaml() -> None:
    text = dedent(
        """
        a: 1          # one
        "b c": 'it # is'
        list:
        - x: 1
          y: 2
        - z
        deep:
            er:
              - - p
                - q
        text: |
          not: read
        last: http://a#b
        """
    )
    found = [(one.path, one.value, one.line) for one in entries(text) if one.value]
    assert found == [
        (("a",), "1", 2),
        (("b c",), "it # is", 3),
        (("list", "-", "x"), "1", 5),
        (("list", "-", "y"), "2", 6),
        (("list", "-"), "z", 7),
        (("deep", "er", "-", "-"), "p", 10),
        (("deep", "er", "-", "-"), "q", 11),
        (("text",), "not: read", 12),
        (("last",), "http://a#b", 14),
    ]


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ("gunicorn -w4 app:app", [("workers", 4)]),
        ("python -m gunicorn --workers=3 app:app", [("workers", 3)]),
        ("env WEB_CONCURRENCY=2 gunicorn app:app", [("workers", 2)]),
        ("uvicorn app:app --workers $(nproc)", [("workers", 2)]),
        ("uvicorn app:app --workers $WORKERS", []),
        ("hypercorn -w 3 app:app && celery -c 8", [("workers", 3)]),
        ("celery -A app worker -c 4", []),
        ("grep -w 4 file", []),
        ("uwsgi --processes 4 --threads 2", [("workers", 4), ("threads", 2)]),
        ("sh -c 'exec gunicorn --preload -w \"2\" app'", [("preload", 1), ("workers", 2)]),
    ],
)
def test_command_lines(command: str, asked: list[tuple[str, int]]) -> None:
    assert [(one.what, one.number) for one in asked_by(command)] == asked


def test_comments_speak_in_deployment_files_too(tmp_path: Path) -> None:
    from statekit.audit import audit

    (tmp_path / "nginx.conf").write_text("upstream a {\n  ip_hash;  # per-process-ok: carts, until June\n}\n")
    (tmp_path / "web.yaml").write_text(
        "kind: Service\nspec:\n  # statekit: ignore[SK550] a cache only\n  sessionAffinity: ClientIP\n"
    )
    report = audit(tmp_path, cache=False)
    assert [(one.path, one.status, one.reason) for one in report.findings] == [
        ("nginx.conf", "accepted", "carts, until June"),
        ("web.yaml", "suppressed", "a cache only"),
    ]
    assert report.notes == ()
