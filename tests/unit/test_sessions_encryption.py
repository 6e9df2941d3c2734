"""Encryption at rest: keys, envelopes, and everything a store can do to a value."""

from __future__ import annotations

import base64
import subprocess
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from statekit import Encryption, StateKit
from statekit.cli.sessions import app
from statekit.errors import CorruptValue, SessionTooLarge, UsageError
from statekit.sessions.encryption import Vault
from statekit.sessions.record import SEALED

KEY = bytes(range(0, 256, 8))
OTHER = bytes(range(1, 256, 8))
ID = "A" * 43
RECORD = "sk1:app:session:{00}"


def vault(*keys: Any, name: str = RECORD, id_: str = ID, **options: Any) -> Vault:
    return Encryption(keys or (KEY,), **options).vault(name, id_)


# -- keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelt",
    [
        KEY,
        KEY.hex(),
        KEY.hex().upper(),
        base64.b64encode(KEY).decode(),
        base64.urlsafe_b64encode(KEY).decode(),
        base64.urlsafe_b64encode(KEY).decode().rstrip("="),
    ],
)
def test_a_key_may_be_spelt_in_several_ways(spelt: Any) -> None:
    sealed = vault(KEY).seal("k", b"1")
    assert vault(spelt).open("k", sealed) == b"1"
    assert Encryption([spelt]).encrypts_with == Encryption([KEY]).encrypts_with


def test_new_keys_are_keys_and_differ() -> None:
    keys = {Encryption.new_key() for _ in range(50)}
    assert len(keys) == 50
    for key in keys:
        Encryption([key])


def test_the_command_line_makes_keys() -> None:
    answers = [CliRunner().invoke(app, ["new-key"]) for _ in range(2)]
    keys = {answer.stdout.strip() for answer in answers}
    assert len(keys) == 2
    Encryption([*keys])


SECRET = "hunter2hunter2hunter2hunter2hun!"


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        KEY,
        "not a list",
        [SECRET],
        [SECRET.encode()],
        [b"\0" * 32],
        ["00" * 32],
        [KEY[:31]],
        [KEY + b"x"],
        [KEY.hex()[:-1]],
        [bytearray(KEY)],
        [None],
        [7],
        [KEY, KEY.hex()],
        None,
    ],
)
def test_what_is_no_key_is_refused_and_never_shown(wrong: Any) -> None:
    with pytest.raises(UsageError) as refused:
        Encryption(wrong)
    told = str(refused.value)
    assert "hunter2" not in told
    assert KEY.hex()[:8] not in told
    assert "key" in told


def test_no_description_shows_a_key() -> None:
    encryption = Encryption([KEY, OTHER])
    told = f"{encryption!r} {encryption} {encryption.vault(RECORD, ID)!r}"
    for key in (KEY, OTHER):
        assert key.hex() not in told
        assert base64.b64encode(key).decode() not in told
        assert repr(key) not in told
    assert ID not in told


def test_words_for_plaintext_and_encryption_are_checked() -> None:
    with pytest.raises(UsageError, match="plaintext"):
        Encryption([KEY], plaintext="never")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="encryption") as refused:
        StateKit.in_memory().sessions(encryption=KEY.hex())  # type: ignore[arg-type]
    assert KEY.hex() not in str(refused.value)


def test_cryptography_is_asked_for_only_by_who_encrypts() -> None:
    code = """
import sys
sys.modules["cryptography"] = None
from statekit import Encryption, StateKit, UsageError
sessions = StateKit.in_memory().sessions()
session = sessions.open(None)
session["k"] = 1
sessions.save(session)
try:
    Encryption([Encryption.new_key()])
except UsageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "statekit[encryption]" in done.stdout


# -- values ----------------------------------------------------------------------------------------------


@given(st.text(max_size=30), st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_a_value_comes_back_and_is_not_to_be_seen(key: str, raw: bytes) -> None:
    sealed = vault().seal(key, raw)
    assert vault(OTHER, KEY).open(key, sealed) == raw
    assert len(raw) < 8 or raw not in sealed
    assert sealed != vault().seal(key, raw), "the same value looks different each time"
    assert len(sealed) == len(SEALED) + 8 + 1 + -(-(len(raw) + 28) // 3) * 4 + 2


@given(st.binary(max_size=40), st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_a_changed_byte_is_noticed_wherever_it_is(raw: bytes, change: int) -> None:
    sealed = vault(KEY, OTHER).seal("k", raw)
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ change]) + sealed[at + 1 :]
        if not changed.startswith(SEALED):
            continue  # no envelope any more: what it is then is the codec's business
        with pytest.raises(CorruptValue):
            vault(KEY, OTHER).open("k", changed)


def test_who_refuses_plaintext_takes_no_value_from_who_writes_to_the_store() -> None:
    sessions, record = stored(Encryption([KEY], plaintext="refuse"))
    sealed = record[b"d:k"]
    planted = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for record[b"d:k"] in [*planted, b'"admin"', b"1", b"", b'{"~e":"x"}']:
        with pytest.raises(CorruptValue, match="del session"):
            sessions.open(ID)["k"]


@given(
    st.binary(max_size=60),
    st.sampled_from(
        [b"", SEALED, SEALED + b"00000000.", SEALED + vault().seal("k", b"1")[len(SEALED) :][:9]]
    ),
)
@settings(max_examples=200, deadline=None)
@example(SEALED[:-1], b"")
def test_any_bytes_are_a_value_or_a_corrupt_one(raw: bytes, begin: bytes) -> None:
    for end in (b"", b'"}'):
        try:
            assert vault().open("k", begin + raw + end) == begin + raw + end
        except CorruptValue:
            assert (begin + raw + end).startswith(SEALED), "what is not encrypted is the codec's business"


@pytest.mark.parametrize("cut", [8, 30, 31, 32, -1, -3, -5, -30])
def test_a_value_cut_short_is_noticed(cut: int) -> None:
    sealed = vault().seal("k", b"value")
    for broken in (sealed[:cut], sealed[:cut] + b'"}', sealed + b"x", sealed.replace(b'"}', b'="}')):
        with pytest.raises(CorruptValue):
            vault().open("k", broken)


def test_a_value_opens_in_its_own_place_and_nowhere_else() -> None:
    sealed = vault().seal("role", b'"user"')
    elsewhere = [
        vault(),  # another key of the session, below
        vault(name="sk1:app:session:{01}"),
        vault(name="sk1:other:session:{00}"),
        vault(id_="B" * 43),
        vault(OTHER),
    ]
    for at, place in enumerate(elsewhere):
        with pytest.raises(CorruptValue):
            place.open("role" if at else "name", sealed)
    assert vault().open("role", sealed) == b'"user"'
    for name, key in ((RECORD + "\nrole", ""), (RECORD, "ole"), (RECORD[:-1], "}role")):
        with pytest.raises(CorruptValue):
            vault(name=name).open(key, sealed)


def test_the_store_and_the_key_together_open_nothing_without_the_visitors_id() -> None:
    """What a copy of the store holds, and the configured key: all but the id, which is in no copy."""
    sealed = vault().seal("k", b'"secret"')
    box = base64.b64decode(sealed[len(SEALED) + 9 : -2])
    place = RECORD.encode() + b"\nk"

    def derived(info: bytes) -> bytes:
        return HKDF(hashes.SHA256(), 32, b"statekit session values", info).derive(KEY)

    assert AESGCM(derived(ID.encode())).decrypt(box[:12], box[12:], place) == b'"secret"', (
        "another HKDF and another hand agree"
    )
    for guess in (KEY, derived(b""), derived(b"00"), derived(RECORD.encode())):
        with pytest.raises(Exception):  # noqa: B017 - the library's own, whatever it is called
            AESGCM(guess).decrypt(box[:12], box[12:], place)


def test_a_missing_key_is_named_by_its_public_id() -> None:
    sealed = vault(OTHER).seal("k", b"1")
    with pytest.raises(CorruptValue, match=Encryption([OTHER]).encrypts_with):
        vault(KEY).open("k", sealed)


def test_plaintext_is_read_or_refused_or_still_written() -> None:
    assert vault().open("k", b"1") == b"1"
    with pytest.raises(CorruptValue, match="not encrypted"):
        vault(plaintext="refuse").open("k", b"1")
    early = vault(plaintext="write")
    assert early.seal("k", b"1") == b"1"
    assert early.open("k", vault().seal("k", b"2")) == b"2"


# -- sessions over them ----------------------------------------------------------------------------------


def stored(encryption: Encryption | None, **values: Any) -> tuple[Any, dict[bytes, bytes]]:
    """A session with id `ID`, and its record as it lies in the store."""
    kit = StateKit.in_memory()
    sessions = kit.sessions(encryption=encryption, max_bytes=400)
    session = sessions.open(None)
    session._id = ID
    session.update({"k": "v"} | values)
    sessions.save(session)
    data: Any = kit.store.transport.data  # type: ignore[attr-defined]
    (name,) = data.keys()
    return sessions, data.get(name)


def test_a_damaged_value_harms_only_its_key() -> None:
    sessions, record = stored(Encryption([KEY]), good=1)
    record[b"d:k"] = record[b"d:good"]
    session = sessions.open(ID)
    assert session["good"] == 1
    assert sorted(session) == ["good", "k"]
    with pytest.raises(CorruptValue, match=r"session\['k'\].*del session"):
        session["k"]
    session["k"] = "mended"
    assert sessions.save(session) == "saved"
    assert sessions.open(ID)["k"] == "mended"


def test_who_was_not_told_the_keys_says_so() -> None:
    sessions, record = stored(Encryption([KEY]))
    plain, bare = stored(None)
    bare[b"d:k"] = record[b"d:k"]
    with pytest.raises(CorruptValue, match="encryption="):
        plain.open(ID)["k"]
    assert sessions.open(ID)["k"] == "v"


def test_the_size_budget_counts_what_is_stored() -> None:
    sessions, _ = stored(Encryption([KEY]))
    session = sessions.open(ID)
    session["long"] = "x" * 250  # 252 bytes as JSON, 389 encrypted
    with pytest.raises(SessionTooLarge, match="'long'"):
        sessions.save(session)


def test_an_app_that_stores_what_looks_encrypted_gets_it_back() -> None:
    for encryption in (None, Encryption([KEY])):
        sessions, _ = stored(encryption, mine={"~e": "aaaaaaaa.AAAA"})
        assert sessions.open(ID)["mine"] == {"~e": "aaaaaaaa.AAAA"}
