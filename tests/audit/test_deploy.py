"""Settings and libraries that keep state in the process: each rule found, each cleared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from statekit.audit.deploy.joined import beside
from statekit.audit.model import Category, Confidence, Severity
from tests.audit.deploying import deployed, told

HEAD = "INSTALLED_APPS = []\nMIDDLEWARE = []\nROOT_URLCONF = 'shop.urls'\n"
LOCMEM = "CACHES = {'default': {'BACKEND': 'django.core.cache.backends.locmem.LocMemCache'}}\n"
REDIS = "CACHES = {'default': {'BACKEND': 'django.core.cache.backends.redis.RedisCache'}}\n"
DUMMY = "CACHES = {'default': {'BACKEND': 'django.core.cache.backends.dummy.DummyCache'}}\n"
CACHED = "SESSION_ENGINE = 'django.contrib.sessions.backends.cache'\n"

FOUND: dict[str, tuple[dict[str, str], list[str]]] = {
    "a limiter without storage": (
        {"app.py": "from flask_limiter import Limiter\nlimiter = Limiter(key, app=app)\n"},
        ["SK1201 app.py:2 limiter high"],
    ),
    "slowapi": (
        {"app.py": "from slowapi import Limiter\n\nlimiter = Limiter(key_func=address)\n"},
        ["SK1201 app.py:3 limiter high"],
    ),
    "an imported module": (
        {"app.py": "import flask_limiter as fl\nlimits = fl.Limiter(key)\n"},
        ["SK1201 app.py:2 limits high"],
    ),
    "options nobody can see": (
        {"app.py": "from flask_limiter import Limiter\nlimiter = Limiter(key, **options)\n"},
        ["SK1201 app.py:2 limiter medium"],
    ),
    "a limiter in a factory": (
        {"app.py": "from flask_limiter import Limiter\ndef create(app):\n    limiter = Limiter(key)\n    return limiter\n"},
        ["SK1201 app.py:3 limiter high"],
    ),
    "memory in so many words": (
        {"app.py": "from flask_limiter import Limiter\nlimiter = Limiter(\n    key,\n    storage_uri='memory://',\n)\n"},
        ["SK1212 app.py:2 limiter high"],
    ),
    "memory in the settings": (
        {"config.py": "class Config:\n    RATELIMIT_STORAGE_URI = 'memory://'\n"},
        ["SK1212 config.py:2 RATELIMIT_STORAGE_URI high"],
    ),
    "memory in app.config": (
        {"app.py": "def create():\n    app = Flask()\n    app.config['RATELIMIT_STORAGE_URL'] = 'memory://'\n"},
        ["SK1212 app.py:3 RATELIMIT_STORAGE_URL high"],
    ),
    "memory by update": (
        {"app.py": "app.config['X'] = 1\napp.config.update(\n    RATELIMIT_STORAGE_URI='memory://')\n"},
        ["SK1212 app.py:3 RATELIMIT_STORAGE_URI high"],
    ),
    "memory where the environment says nothing": (
        {"config.py": "import os\nSTORAGE_URI = os.getenv('REDIS_URL', 'memory://')\n"},
        ["SK1211 config.py:2 STORAGE_URI medium"],
    ),
    "memory as the argument of an argument": (
        {"app.py": "from slowapi import Limiter\nimport os\nlimiter = Limiter(storage_uri=os.environ.get('R', 'memory://'))\n"},
        ["SK1211 app.py:3 limiter medium"],
    ),
    "memory in one of two branches": (
        {"config.py": "if REDIS_URL:\n    STORAGE_URI = REDIS_URL\nelse:\n    STORAGE_URI = 'memory://'\n"},
        ["SK1211 config.py:4 STORAGE_URI low"],
    ),
    "pydantic's default": (
        {"config.py": "class Settings(BaseSettings):\n    broker_url: str = Field(default='memory://')\n"},
        ["SK1211 config.py:2 broker_url medium"],
    ),
    "a broker in memory": (
        {"tasks.py": "from celery import Celery\ncelery = Celery('shop', broker='memory://')\n"},
        ["SK1207 tasks.py:2 celery high"],
    ),
    "a broker by name": ({"conf.py": "CELERY_BROKER_URL = 'memory://'\n"}, ["SK1207 conf.py:1 CELERY_BROKER_URL high"]),
    "results in memory": (
        {"conf.py": "CELERY_RESULT_BACKEND = 'cache+memory://'\n"},
        ["SK1207 conf.py:1 CELERY_RESULT_BACKEND high"],
    ),
    "a broadcaster": (
        {"ws.py": "from broadcaster import Broadcast\nbroadcast = Broadcast('memory://')\n"},
        ["SK1205 ws.py:2 broadcast high"],
    ),
    "sockets without a queue": (
        {"ws.py": "from flask_socketio import SocketIO\nsocketio = SocketIO(app)\n"},
        ["SK1205 ws.py:2 socketio high"],
    ),
    "an asyncio server without a manager": (
        {"ws.py": "import socketio\nsio = socketio.AsyncServer(async_mode='asgi')\n"},
        ["SK1205 ws.py:2 sio high"],
    ),
    "a simple cache": (
        {"app.py": "from flask_caching import Cache\ncache = Cache(config={\n    'CACHE_TYPE': 'SimpleCache'})\n"},
        ["SK1202 app.py:3 CACHE_TYPE high"],
    ),
    "a cache's type in a class": (
        {"app.py": "from flask_caching import Cache\n", "config.py": "class Config:\n    CACHE_TYPE = 'simple'\n"},
        ["SK1202 config.py:2 CACHE_TYPE high"],
    ),
    "cachelib": ({"config.py": "SESSION_TYPE = 'cachelib'\n"}, ["SK1204 config.py:1 SESSION_TYPE medium"]),
    "cachelib in memory": (
        {"config.py": "SESSION_TYPE = 'cachelib'\nSESSION_CACHELIB = SimpleCache()\n"},
        ["SK1204 config.py:1 SESSION_TYPE high"],
    ),
    "sessions in files": ({"config.py": "SESSION_TYPE = 'filesystem'\n"}, ["SK1204 config.py:1 SESSION_TYPE low"]),
    "a store for trying out": (
        {
            "app.py": """
            from fastapi_cache import FastAPICache
            from fastapi_cache.backends.inmemory import InMemoryBackend
            FastAPICache.init(InMemoryBackend(), prefix="shop")
            """
        },
        ["SK1213 app.py:3 InMemoryBackend high"],
    ),
    "aiocache": (
        {"app.py": "from aiocache import SimpleMemoryCache\ncache = SimpleMemoryCache()\n"},
        ["SK1213 app.py:2 cache high"],
    ),
    "cashews": (
        {"app.py": "from cashews import cache\ncache.setup('mem://')\n"},
        ["SK1212 app.py:2 cache high"],
    ),
    "aiocache, by its type": (
        {"app.py": "from aiocache import Cache\ncache = Cache(Cache.MEMORY)\n"},
        ["SK1213 app.py:2 cache high"],
    ),
    "Django's cache as an address": (
        {"settings.py": HEAD + "CACHES = {'default': env.cache('CACHE_URL', default='locmemcache://')}\n"},
        ["SK1211 settings.py:4 CACHES medium"],
    ),
    "a job store": (
        {"jobs.py": "from apscheduler.jobstores.memory import MemoryJobStore\nstores = {'default': MemoryJobStore()}\n"},
        ["SK1213 jobs.py:2 stores high"],
    ),
    "a schedule in every worker": (
        {
            "jobs.py": """
            from apscheduler.schedulers.background import BackgroundScheduler
            scheduler = BackgroundScheduler()
            scheduler.add_job(digest, "cron", hour=6)
            scheduler.start()
            """
        },
        ["SK1206 jobs.py:2 scheduler medium"],
    ),
    "a database in memory": (
        {"config.py": "SQLALCHEMY_DATABASE_URI = 'sqlite:///:memory:'\n"},
        ["SK1213 config.py:1 SQLALCHEMY_DATABASE_URI medium"],
    ),
    "a key made up": (
        {"app.py": "import secrets\napp.secret_key = secrets.token_hex()\n"},
        ["SK1208 app.py:2 secret_key high"],
    ),
    "a key in app.config": (
        {"app.py": "import os\napp.config['SECRET_KEY'] = os.urandom(24)\n"},
        ["SK1208 app.py:2 SECRET_KEY high"],
    ),
    "a key under a name": (
        {"app.py": "import secrets\nif not app.config[Key.SECRET_KEY]:\n    sys.stderr.write('no SECRET_KEY')\n    app.config[Key.SECRET_KEY] = secrets.token_hex()\n"},
        ["SK1208 app.py:4 SECRET_KEY medium"],
    ),
    "a key among the settings of Tornado": (
        {"app.py": "import os\ndef start(self):\n    self.tornado_settings['cookie_secret'] = os.urandom(32)\n"},
        ["SK1208 app.py:3 cookie_secret high"],
    ),
    "a key, beside files of other keys": (
        {"app.py": "import secrets\ndef start(app):\n    open(app.config[Key.PEPPER_FILE])\n    app.config['SECRET_KEY'] = secrets.token_hex()\n"},
        ["SK1208 app.py:4 SECRET_KEY high"],
    ),
    "a key of a class": (
        {"config.py": "import uuid\nclass Config:\n    SECRET_KEY = uuid.uuid4().hex\n"},
        ["SK1208 config.py:3 SECRET_KEY high"],
    ),
    "a key from a function of the project": (
        {
            "keys.py": "import random\ndef build():\n    return ''.join(random.choice('abc') for _ in range(9))\n",
            "app.py": "from keys import build\nSECRET_KEY = build()\n",
        },
        ["SK1208 app.py:2 SECRET_KEY high"],
    ),
    "a key from a function with a choice": (
        {
            "app.py": """
            import secrets
            def key():
                if settings.get("KEY"):
                    return settings.get("KEY")
                return secrets.token_hex()
            SECRET_KEY = key()
            OPTIONS = dict(SECRET_KEY=SECRET_KEY)
            """
        },
        ["SK1208 app.py:6 SECRET_KEY medium"],
    ),
    "a declared setting's default": (
        {"auth.py": "import secrets\nclass Auth(Configurable):\n    secret = Unicode(secrets.token_hex(9), config=True)\n"},
        ["SK1208 auth.py:3 secret medium"],
    ),
    "a key where none is configured": (
        {"app.py": "import os, secrets\nSECRET_KEY = os.environ.get('KEY') or secrets.token_urlsafe()\n"},
        ["SK1208 app.py:2 SECRET_KEY medium"],
    ),
    "a middleware's key": (
        {
            "app.py": """
            import os
            from starlette.middleware.sessions import SessionMiddleware
            app.add_middleware(SessionMiddleware, secret_key=os.urandom(32).hex())
            """
        },
        ["SK1208 app.py:3 secret_key high"],
    ),
    "an option's default": (
        {"options.py": "from secrets import token_urlsafe\nfrom tornado.options import define\ndefine('cookie_secret', default=token_urlsafe(64))\n"},
        ["SK1208 options.py:3 cookie_secret high"],
    ),
    "Django's cache, used": (
        {"settings.py": HEAD + LOCMEM, "views.py": "from django.core.cache import cache\n"},
        ["SK1202 settings.py:4 CACHES high"],
    ),
    "Django's cache, for whole pages": (
        {"settings.py": HEAD + LOCMEM, "views.py": "from django.views.decorators.cache import cache_page\n"},
        ["SK1202 settings.py:4 CACHES medium"],
    ),
    "Django's cache, perhaps unused": ({"settings.py": HEAD + LOCMEM}, ["SK1202 settings.py:4 CACHES medium"]),
    "Django's cache, spelt elsewhere": (
        {
            "settings.py": HEAD
            + CACHED
            + "BACKEND = 'django.core.cache.backends.locmem.LocMemCache'\nCACHES = {'default': {'BACKEND': BACKEND}}\n"
        },
        ["SK1202 settings.py:5 BACKEND high"],
    ),
    "no cache for sessions": ({"settings.py": HEAD + CACHED}, ["SK1203 settings.py:4 SESSION_ENGINE high"]),
    "no cache for throttles": (
        {"settings.py": HEAD + "REST_FRAMEWORK = {'DEFAULT_THROTTLE_RATES': {'anon': '5/m'}}\n"},
        ["SK1203 settings.py:4 REST_FRAMEWORK high"],
    ),
    "no cache for django-ratelimit": (
        {
            "settings.py": HEAD,
            "views.py": "from django_ratelimit.decorators import ratelimit\n\n@ratelimit(key='ip')\ndef login(r): ...\n",
        },
        ["SK1203 views.py:3 ratelimit high"],
    ),
    "a dummy that sessions need": ({"settings.py": HEAD + CACHED + DUMMY}, ["SK1202 settings.py:5 CACHES medium"]),
    "memory unless configured": (
        {"settings.py": HEAD + CACHED + LOCMEM + "if REDIS_URL:\n    CACHES['default'] = {'BACKEND': 'django_redis.cache.RedisCache'}\n"},
        ["SK1211 settings.py:5 CACHES medium"],
    ),
    "what production inherits": (
        {"settings/base.py": HEAD + CACHED + LOCMEM, "settings/production.py": "from .base import *\nALLOWED_HOSTS = []\nDATABASES = {}\nTEMPLATES = []\n"},
        ["SK1202 settings/base.py:5 CACHES high"],
    ),
    "channels in memory": (
        {"settings.py": HEAD + "CHANNEL_LAYERS = {'default': {'BACKEND': 'channels.layers.InMemoryChannelLayer'}}\n"},
        ["SK1205 settings.py:4 CHANNEL_LAYERS high"],
    ),
    "Django's sessions in files": (
        {"settings.py": HEAD + "SESSION_ENGINE = 'django.contrib.sessions.backends.file'\n"},
        ["SK1204 settings.py:4 SESSION_ENGINE medium"],
    ),
}  # fmt: skip

CLEARED: dict[str, dict[str, str]] = {
    "a limiter with storage": {"app.py": "from flask_limiter import Limiter\nlimiter = Limiter(key, storage_uri=REDIS)\n"},
    "a limiter whose storage is a setting": {
        "app.py": "from flask_limiter import Limiter\nlimiter = Limiter(key)\n",
        "config.py": "import os\nRATELIMIT_STORAGE_URI = os.environ['REDIS_URL']\n",
    },
    "a limiter of the project's own": {"app.py": "from shop.limits import Limiter\nlimiter = Limiter(key)\n", "shop/limits.py": ""},
    "a limiter of the tests": {"tests/app.py": "from flask_limiter import Limiter\nlimiter = Limiter(key)\n"},
    "a test's settings": {"settings/test.py": HEAD + LOCMEM + "CELERY_BROKER_URL = 'memory://'\n"},
    "a developer's class": {"config.py": "class DevelopmentConfig:\n    RATELIMIT_STORAGE_URI = 'memory://'\n    SECRET_KEY = os.urandom(4)\n"},
    "under DEBUG, shared otherwise": {"config.py": "if DEBUG:\n    STORAGE_URI = 'memory://'\nelse:\n    STORAGE_URI = REDIS_URL\n"},
    "in the other branch of production": {"config.py": "if ENV == 'production':\n    BROKER_URL = REDIS_URL\nelse:\n    BROKER_URL = 'memory://'\n"},
    "in a conditional expression": {"config.py": "BROKER_URL = 'memory://' if TESTING else REDIS_URL\n"},
    "what production overrules": {"config.py": "class Config:\n    RATELIMIT_STORAGE_URI = 'memory://'\nclass ProductionConfig(Config):\n    RATELIMIT_STORAGE_URI = 'redis://cache'\n"},
    "words about memory": {"app.py": "import celery\nif url.startswith('memory://'):\n    raise ValueError('memory:// is not shared')\nSCHEMES = ['memory://', 'redis://']\n"},
    "text with settings in it": {"text.py": "import celery\nTEMPLATE = '''\nCELERY_BROKER_URL = \"memory://\"\n'''\n"},
    "a comment": {"conf.py": "import celery\n# CELERY_BROKER_URL = 'memory://'\nCELERY_BROKER_URL = REDIS_URL\n"},
    "sockets with a queue": {"ws.py": "from flask_socketio import SocketIO\nsocketio = SocketIO(app, message_queue=URL)\n"},
    "sockets with a queue given later": {"ws.py": "from flask_socketio import SocketIO\nsocketio = SocketIO()\ndef create(app):\n    socketio.init_app(app, message_queue=URL)\n"},
    "an asyncio server with a manager": {"ws.py": "import socketio\nsio = socketio.AsyncServer(client_manager=socketio.AsyncRedisManager(URL))\n"},
    "a client of sockets": {"ws.py": "import socketio\nsio = socketio.AsyncClient()\n"},
    "a shared cache": {"config.py": "CACHE_TYPE = 'RedisCache'\nSESSION_TYPE = 'redis'\n"},
    "a store of the project's own": {"app.py": "from shop.stores import MemoryStorage\nstore = MemoryStorage()\n", "shop/stores.py": "class MemoryStorage: ...\n"},
    "a store of the project's own, further down": {
        "src/web/app.py": "from shop.stores import MemoryStorage\nstore = MemoryStorage()\n",
        "src/lib/shop/stores.py": "class MemoryStorage: ...\n",
    },
    "a scheduler that waits by itself": {"jobs.py": "from apscheduler.schedulers.blocking import BlockingScheduler\nscheduler = BlockingScheduler()\nscheduler.add_job(f)\nscheduler.start()\n"},
    "a scheduler nobody starts": {"jobs.py": "from apscheduler.schedulers.background import BackgroundScheduler\nscheduler = BackgroundScheduler()\nscheduler.add_job(f)\n"},
    "a key from the environment": {"app.py": "import os, secrets\nSECRET_KEY = os.environ['KEY']\nTOKEN = secrets.token_hex()\n"},
    "a key kept in a file": {
        "app.py": """
        import secrets
        def key(path):
            if not path.exists():
                app.secret_key = secrets.token_hex()
                path.write_text(app.secret_key)
        """
    },
    "an object's own key": {"models.py": "import secrets\nclass Token:\n    jwt_key: str = attr.ib(factory=lambda: secrets.token_hex(64))\n"},
    "a scheme": {"conf.py": "MEMORY_URL_PREFIX = 'memory://'\nSQLITE_DATABASE_PREFIX = 'sqlite://'\n"},
    "a key for a project to be made": {"start.py": "import secrets\ndef handle(**options):\n    options['secret_key'] = secrets.token_hex()\n"},
    "a column's default": {"models.py": "import uuid\nclass User(Base):\n    signing_secret = db.Column(UUID, default=lambda: uuid.uuid4().hex)\n"},
    "a key kept in the settings": {
        "app.py": """
        import secrets
        def key(settings):
            secret_key = settings.get("secretKey")
            if not secret_key:
                secret_key = secrets.token_hex()
                settings.set("secretKey", secret_key)
            app.secret_key = secret_key
        """
    },
    "memcached": {"app.py": "from cashews import cache\ncache.setup('memcache://cache')\nCACHE_URL = 'memcached://cache'\n"},
    "aiocache, shared": {"app.py": "from aiocache import Cache\ncache = Cache(Cache.REDIS)\n"},
    "a name for a database in memory": {"sql.py": "sqlite_memory = ':memory:'\n"},
    "a row's own secret": {"models.py": "import secrets\ndef invite(user):\n    user.secret = secrets.token_hex()\n    user.secret_key = secrets.token_hex()\n"},
    "a developer's key": {"settings.py": "import secrets\nif DEBUG:\n    SECRET_KEY = secrets.token_hex()\n"},
    "Django's shared cache": {"settings.py": HEAD + CACHED + REDIS},
    "a dummy nothing needs": {"settings.py": HEAD + DUMMY},
    "overridden for production": {"settings/base.py": HEAD + CACHED + LOCMEM, "settings/prod.py": "from .base import *\nDEBUG = False\n" + REDIS},
    "overridden further down": {"settings.py": HEAD + CACHED + LOCMEM + "CACHES['default'] = {'BACKEND': 'django_redis.cache.RedisCache'}\n"},
    "an alias nobody counts with": {"settings.py": HEAD + CACHED + REDIS[:-2] + ", 'pages': {'BACKEND': 'django.core.cache.backends.filebased.FileBasedCache'}}\n"},
    "sessions in the database": {"settings.py": HEAD + "SESSION_ENGINE = 'django.contrib.sessions.backends.db'\n"},
    "a database in a file": {"config.py": "DATABASE_URL = 'sqlite:///shop.db'\n"},
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_found(case: str, tmp_path: Path) -> None:
    files, expected = FOUND[case]
    assert told(tmp_path, files) == expected


@pytest.mark.parametrize("case", CLEARED)
def test_cleared(case: str, tmp_path: Path) -> None:
    assert told(tmp_path, CLEARED[case]) == []


def test_a_finding_says_everything(tmp_path: Path) -> None:
    (one,) = deployed(
        tmp_path, {"shop/web.py": "from slowapi import Limiter\nlimiter = Limiter(key)\n"}
    ).findings
    assert one.category is Category.MISCONFIG
    assert one.confidence is Confidence.HIGH
    assert one.severity is Severity.WARNING
    assert one.qualified_name == "shop.web.limiter"
    assert one.why.startswith("`limiter` has no `storage_uri`")
    assert "storage_uri=" in one.replacement
    assert one.evidence


def test_how_it_is_run_makes_it_lighter_or_heavier(tmp_path: Path) -> None:
    code = {"app.py": "from slowapi import Limiter\nlimiter = Limiter(key, storage_uri='memory://')\n"}
    alone = deployed(tmp_path / "a", code).findings[0]
    single = deployed(tmp_path / "b", {**code, "Procfile": "web: gunicorn -w 1 app:app\n"}).findings[0]
    several = deployed(tmp_path / "c", {**code, "Procfile": "web: gunicorn -w 4 app:app\n"}).findings[0]
    assert [one.severity for one in (alone, single, several)] == [
        Severity.NOTE,
        Severity.NOTE,
        Severity.WARNING,
    ]
    assert several.why.endswith("; Procfile:1 starts several processes (`-w 4`).")


def test_metrics_need_a_folder_where_several_processes_count(tmp_path: Path) -> None:
    code = {"app.py": "from prometheus_client import Counter\nREQUESTS = Counter('requests', 'served')\n"}
    many = {**code, "Procfile": "web: gunicorn -w 4 app:app\n"}
    assert told(tmp_path / "a", code) == []
    assert told(tmp_path / "b", many) == ["SK1209 app.py:2 REQUESTS high"]
    assert told(tmp_path / "c", {**many, "Dockerfile": "ENV PROMETHEUS_MULTIPROC_DIR=/run/metrics\n"}) == []


def test_a_file_that_is_gone_says_nothing(tmp_path: Path) -> None:
    from statekit.audit.deploy.entry import deployment
    from statekit.audit.reading import read

    facts = read("gone.py", b"from slowapi import Limiter\nlimiter = Limiter(key)\n")
    assert deployment(tmp_path, [facts]).findings == []


def test_beside_the_analyser(tmp_path: Path) -> None:
    """One line, one finding: a setting outweighs its shape, an object is what the analyser saw it do."""
    code = {
        "a.py": "from slowapi import Limiter\nlimiter = Limiter(key)\n",
        "b.py": "from limits.storage import MemoryStorage\nstorage = MemoryStorage()\n",
    }
    setting, store = deployed(tmp_path, code).findings
    seen = [
        replace(one, rule="SK101", category=Category.RATE_LIMITER, confidence=Confidence.MEDIUM)
        for one in (setting, store)
    ]
    other = replace(setting, rule="SK1003", category=Category.COUNTER, line=9)
    assert beside([*seen, other], [setting, store]) == [seen[1], other, setting]
