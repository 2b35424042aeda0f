"""The configuration: safe by default, and an error that says where, what was expected, what came and what was meant."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore import config
from imcore.errors import ConfigError
from imcore.gateway.limits import Limits as LinkLimits
from imcore.gateway.listeners import is_loopback
from imcore.schema import convert, keys

DOCUMENT = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text()

# What is wrong, and what the error must tell.
WRONG = [
    ("[node]\nnam = 'x'", ["node.nam", "no such key", "did you mean node.name?"]),
    ("[nod]\nname = 'x'", ["nod:", "did you mean node?"]),
    ("[node]\nwindow = 3", ["node.window", "did you mean limits.window?"]),
    ("[node]\nxyz = 3", ["node.xyz", "expected one of name, data, key, roles"]),
    ("[node]\nname = 3", ["node.name", "expected a text", "got 3", 'name = "imcore"']),
    ("[node]\nname = ''", ["node.name", "not empty", 'got ""']),
    ("[node]\nname = 1979-05-27", ["node.name", "got 1979-05-27"]),
    ("[node]\nroles = ['service', 'medai']", ["node.roles[1]", '"media"', 'got "medai"']),
    ("[node]\nroles = ['media', 'access']", ["node.roles", '"access" answers on the addresses of "downlink"']),
    ("[media]\nstore = 's3'", ["media.s3.bucket", "expected the name of a bucket"]),
    ("[media]\ntypes = ['image']", ["media.types[0]"]),
    ("[node]\nroles = ['service', 'uplink']", ["node.roles", '"downlink" and "uplink" together', "over Redis"]),
    ("[node]\nroles = ['service']", ["node.roles", '"downlink" and "uplink" together', "over Redis"]),
    ("[access]\nlifetime_s = 5", ["access.lifetime_s", "60 to 604800", "got 5"]),
    ("[access]\nlifetime_s = 60", ["access.refresh_s", "at most lifetime_s (60)", "got 300"]),
    ("[access]\nproxies = ['10.0.0.1/8']", ["access.proxies[0]", "192.0.2.0/24"]),
    ("[[access.points]]\nname = 'a'\naddresses = ['h']", ["access.points[0].ways", "missing"]),
    ("[[access.points]]\nname = 'a'\naddresses = ['h']\nways = ['tls:1']", ["points[0].addresses[0]", "an IP address"]),
    (
        "[[access.points]]\nname = 'a'\naddresses = ['::1']\nways = ['ssh:1']",
        ["points[0].ways[0]", "way:port", "ssh:1"],
    ),
    (
        "[[access.points]]\nname = 'a'\naddresses = ['::1']\nways = ['tls:x']",
        ["points[0].ways[0]", "way:port", "tls:x"],
    ),
    (2 * "[[access.points]]\nname = 'a'\naddresses = ['::1']\nways = ['tls:1']\n", ["points", "differ", "'a' twice"]),
    ("[[access.networks]]\nprefixes = ['::/129']", ["access.networks[0].prefixes[0]", "192.0.2.0/24"]),
    ("[[access.networks]]\nprefixes = ['::/1']\ncarrier = '*'", ["access.networks[0].carrier", "name of one"]),
    ("[[access.names]]\nname = 'a b'", ["access.names[0].name", 'got "a b"']),
    ("[limits]\nwindow = 0", ["limits.window", "at least 1", "got 0", "window = 128"]),
    ("[limits]\nmax_frame = true", ["limits.max_frame", "4096 to 16777216", "got true"]),
    ("[limits]\nheartbeat = [30]", ["limits.heartbeat", "a list of 2", "got [30]"]),
    ("[limits]\nheartbeat = [0, 30]", ["limits.heartbeat[0]", "got 0"]),
    ("[limits]\nheartbeat = [60, 30]", ["limits.heartbeat", "[shortest, longest]", "[60, 30]"]),
    ("[limits]\nhandshake_s = inf", ["limits.handshake_s", "above 0, at most 3600", "got inf"]),
    ("[limits]\ndrain_s = inf", ["limits.drain_s", "0 to 86400", "got inf"]),
    ("[limits]\nspread_s = 1e9", ["limits.spread_s", "0 to 86400", "got 1000000000"]),
    ("[limits]\nidle_s = 65536", ["limits.idle_s", "1 to 65535", "got 65536"]),
    ("[limits]\nwindow_bytes = 3000000000", ["limits.window_bytes", "4096 to 1073741824", "got 3000000000"]),
    ("[limits]\nup_late_ms = 1001", ["limits.up_late_ms", "at most late_ms (1000)", "got 1001", "raise late_ms"]),
    ("[limits]\nlate_ms = 499", ["limits.up_late_ms", "at most late_ms (499)", "got 500", "lower it"]),
    ("[limits]\nup_bytes = 65535", ["limits.up_bytes", "at least max_frame (65536)", "got 65535", "lower max_frame"]),
    *(
        (f"[{table}]\n{key} = 3162240001", [f"{table}.{key}", f"{least} to 3162240000", "got 3162240001"])
        for table, key, least in (
            ("inbox", "age_s", 1),
            ("inbox", "device_ttl_s", 1),
            ("media", "expire_s", 1),
            ("media", "keep_s", 0),
            ("media", "link_s", 1),
        )
    ),
    ("[media]\nidle_s = inf", ["media.idle_s", "above 0, at most 86400", "got inf"]),
    ("[[listen]]", ["listen[0].address", "missing"]),
    ("[[listen]]\naddress = 'a:1'\n[[listen]]\naddress = 'a'", ["listen[1].address", "host:port", "'a'"]),
    ("[[listen]]\naddress = 'a:65536'", ["listen[0].address", "host:port"]),
    ("[[listen]]\naddress = '::1:80'", ["listen[0].address", "[v6 address]:port"]),
    ("[[listen]]\naddress = 'a:1'\ntls = { certificate = 'c' }", ["listen[0].tls.key", "missing"]),
    ("listen = []", ["listen", "one or more"]),
    ("[bus]\nengine = 'kafka'", ["bus.engine", '"kafka"', '"embedded" or "redis"']),
    ("[bus]\nspace = '{x}'", ["bus.space"]),
    ("[bus]\nshards = 0", ["bus.shards"]),
    ("[auth]\nmode = 'password'", ["auth.mode", '"anonymous" or "jwt"', '"password"']),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_what_is_wrong_is_named_with_what_was_expected_and_what_came(text: str, told: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, source="imcore.toml")
    assert str(caught.value).startswith("imcore.toml: ")
    assert "\n" not in str(caught.value)
    assert not [part for part in told if part not in str(caught.value)], str(caught.value)


@pytest.mark.parametrize(
    ("text", "place"), [("a = 1\nb == 2", "c.toml:2:4"), ("\n\n[node", "c.toml:3"), ('x = "', "c.toml:1")]
)
def test_a_syntax_error_has_its_file_line_and_column(text: str, place: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{re.escape(place)}: not TOML: \S"):
        config.parse(text, source="c.toml")


def test_a_secret_never_stands_in_an_error() -> None:
    for text in ("[auth]\nkeys = 'hunter2'", "[auth]\nkeys = [1, { a = 'hunter2' }]", "[auth]\nkeys = [['hunter2']]"):
        with pytest.raises(ConfigError, match=r"auth\.keys") as caught:
            config.parse(text)
        assert "hunter2" not in str(caught.value)


def test_an_empty_file_is_a_node_for_trials_on_loopback() -> None:
    made = config.parse("")
    assert made == msgspec.structs.replace(config.Config(), node=made.node)
    assert all(is_loopback(listen.address) for listen in made.listen)
    assert made.auth.mode == "anonymous"


def test_relative_paths_begin_at_the_files_folder(tmp_path: Path) -> None:
    file = tmp_path / "imcore.toml"
    file.write_text('[[listen]]\naddress = "[::1]:443"\ntls = { certificate = "c.pem", key = "/k.pem" }')
    made = config.load(file)
    assert made.node.data == str(tmp_path / "data")
    assert made.listen[0].tls == config.Tls(certificate=str(tmp_path / "c.pem"), key="/k.pem")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: expected a TOML file that can be read"):
        config.load(tmp_path / "nothing.toml")
    (tmp_path / "latin.toml").write_bytes(b'[node]\nname = "\xe9"')
    with pytest.raises(ConfigError, match="offset 15"):
        config.load(tmp_path / "latin.toml")


def test_a_struct_made_in_a_program_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="host:port"):
        config.Listen(address="nowhere")
    with pytest.raises(ConfigError, match=r"^up_rate: .* >= 0.*, got -1$"):
        config.Limits(up_rate=-1)
    with pytest.raises(ConfigError, match=r"^publish: .*, got 'all'$"):
        LinkLimits(publish=cast(Any, "all"))


def test_links_get_every_limit_of_the_file() -> None:
    names = set(LinkLimits.__struct_fields__) - {"publish", "rooms_per_link"}
    assert names == set(config.Limits.__struct_fields__)
    assert config.Config().link_limits() == LinkLimits()
    other = config.parse('[rooms]\npublish = "none"\nper_link = 3\n[limits]\nwindow = 7').link_limits()
    assert (other.publish, other.rooms_per_link, other.window) == ("none", 3, 7)


def documented() -> dict[str, str]:
    """The rows of the document, by the key with its table; what `tls` holds is in its row."""
    rows = {}
    for section in DOCUMENT.split("\n## ")[1:]:
        table = section.split("`")[1].strip("[]")
        for row in re.finditer(r"^\| `(\w+)` \|.*", section, re.MULTILINE):
            rows[f"{table}.{row[1]}"] = row[0]
    return rows


@pytest.mark.parametrize(("key", "line"), list(keys(config.Config)))
def test_the_document_has_every_key_with_its_default(key: str, line: str) -> None:
    rows = documented()
    row = rows.get(key) or rows.get(key.rpartition(".")[0]) or rows[".".join(key.split(".")[:2])]
    default = line.partition(" = ")[2].partition("  # ")[0]
    assert default == "…" or f"`{default}`" in row
    if "tls." in key:
        assert key.rpartition(".")[2] in row


def test_the_document_has_no_key_that_there_is_not() -> None:
    there_are = {key for key, _ in keys(config.Config)}
    assert set(documented()) <= there_are | {".".join(key.split(".")[:2]) for key in there_are}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["node", "listen", "auth", "limits", "name", "tls", "address", "window", "keys", "a.b", ""]
                ),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    )
)
def test_any_document_is_taken_or_refused_with_a_config_error(document: object) -> None:
    table = document if isinstance(document, dict) else {"listen": document}
    with contextlib.suppress(ConfigError):
        convert(table, config.Config, "x")
