"""What is put into sessions: values that survive being written as text, and values that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from statekit.audit.model import Category, Severity
from tests.audit.deploying import deployed, told

FLASK = "from flask import session\nimport threading, datetime, uuid, json\nfrom decimal import Decimal\nfrom shop.models import User, Kind, Cart, Point\n"
MODELS = "from enum import StrEnum\nclass User: ...\nclass Cart(Base): ...\nclass Kind(StrEnum): ...\nclass Point(dict): ...\n"
LINE = FLASK.count("\n") + 2

ODD = {
    "an object": ("session['user'] = User(row)", "high", "object of `User`"),
    "an object, by way of a variable": (
        "user = User(row)\n    session['user'] = user",
        "high",
        "object of `User`",
    ),
    "an object in a dict": ("session['user'] = {'who': User(row)}", "high", "object of `User`"),
    "an object in a list": ("session['user'] = [User(row) for row in rows]", "high", "object of `User`"),
    "an object, or none": ("session['user'] = User(row) if row else None", "high", "object of `User`"),
    "a row": ("session['user'] = User.query.filter_by(name=name).first()", "high", "row"),
    "a row by key": ("session['user'] = User.query.get(key)", "high", "row"),
    "a lambda": ("session['next'] = lambda: 1", "high", "a function"),
    "an open file": ("session['upload'] = open(path)", "high", "an open file"),
    "a lock": ("session['lock'] = threading.Lock()", "high", "a lock"),
    "a set": ("session['seen'] = {1, 2}", "high", "a set"),
    "a set by call": ("session['seen'] = set(rows)", "high", "a set"),
    "a Decimal": ("session['sum'] = Decimal('1.5')", "high", "a Decimal"),
    "a time": ("session['at'] = datetime.datetime.now()", "low", "a date or time"),
    "bytes": ("session['raw'] = b'1'", "low", "bytes"),
    "a UUID": ("session['id'] = uuid.uuid4()", "low", "a UUID"),
    "under a key with a name": ("session[USER] = User(row)", "high", "object of `User`"),
    "an update": ("session.update({'user': User(row)})", "high", "object of `User`"),
}
PLAIN = {
    "text": "session['user'] = 'ann'",
    "a number": "session['user'] = int(text)",
    "text of a UUID": "session['id'] = str(uuid.uuid4())",
    "hex of a UUID": "session['id'] = uuid.uuid4().hex",
    "a time as text": "session['at'] = datetime.datetime.now().isoformat()",
    "a dict": "session['cart'] = {'sku': 1, 'list': [1, 2, None, True]}",
    "a list": "session['cart'] = list(rows)",
    "JSON": "session['user'] = json.dumps(user)",
    "an attribute": "session['user'] = user.id",
    "an attribute of an object": "session['user'] = User(row).id",
    "a method's answer": "session['user'] = User(row).as_dict()",
    "something unknown": "session['user'] = load(row)",
    "two things": "user = User(row)\n    user = user.id\n    session['user'] = user",
    "an enum that is text": "session['kind'] = Kind('a')",
    "a dict with a name": "session['at'] = Point(x=1)",
    "a form's text": "session['name'] = request.form.get('name')",
    "a count": "session['n'] = User.query.filter_by(a=1).count()",
    "a local variable": "session = {}\n    session['user'] = User(row)",
}


def shop(line: str, head: str = FLASK) -> dict[str, str]:
    return {"shop/web.py": f"{head}def view(request):\n    {line}\n", "shop/models.py": MODELS}


@pytest.mark.parametrize("case", ODD)
def test_found(case: str, tmp_path: Path) -> None:
    line, confidence, words = ODD[case]
    (one,) = deployed(tmp_path, shop(line)).findings
    assert (one.rule, one.category, one.confidence) == ("SK560", Category.SESSION_STORE, confidence)
    assert one.line == LINE + line.count("\n")
    assert words in one.why


@pytest.mark.parametrize("case", PLAIN)
def test_cleared(case: str, tmp_path: Path) -> None:
    assert told(tmp_path, shop(PLAIN[case])) == []


@pytest.mark.parametrize(
    ("head", "target"),
    [
        ("from shop.models import User\n", "request.session"),
        ("import flask\nfrom shop.models import User\n", "flask.session"),
        ("from shop.models import User\n", "websocket.session"),
        ("from quart import session\nfrom shop.models import User\n", "session"),
        ("from shop.models import User\n", "session = request.session\n    session"),
        (
            "from aiohttp_session import get_session\nfrom shop.models import User\n",
            "session = await get_session(request)\n    session",
        ),
    ],
)
def test_sessions_of_every_framework(head: str, target: str, tmp_path: Path) -> None:
    files = shop(f"{target}['user'] = User(1)", head)
    files["shop/web.py"] = files["shop/web.py"].replace("def view", "async def view")
    assert [one.rule for one in deployed(tmp_path, files).findings] == ["SK560"]


def test_a_method_of_a_view(tmp_path: Path) -> None:
    code = "from shop.models import User\nclass V(View):\n    def post(self):\n        self.request.session['user'] = User(1)\n"
    (one,) = deployed(tmp_path, {"shop/web.py": code, "shop/models.py": MODELS}).findings
    assert (one.name, one.line, one.qualified_name) == ("user", 4, "shop.web.V.post.user")
    assert one.severity is Severity.ERROR


@pytest.mark.parametrize(
    "target", ["st.session_state", "self.session.headers", "requests_session", "db.session", "self.cache"]
)
def test_what_is_no_session(target: str, tmp_path: Path) -> None:
    assert told(tmp_path, shop(f"{target}['user'] = User(1)", "from shop.models import User\n")) == []


def test_django_cannot_carry_times(tmp_path: Path) -> None:
    head = "from django.utils import timezone\n"
    assert told(tmp_path, shop("request.session['at'] = timezone.now()", head)) == [
        "SK560 shop/web.py:3 at medium"
    ]
