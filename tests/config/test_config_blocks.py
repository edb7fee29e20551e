"""Blocks and concurrency limits: what the file may say of them, and what is said of what it may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.config import Loaded, load_last_good, save_last_good
from tidemill.core.blocks import Block, BlockType, resolved
from tidemill.core.deployments import SecretRef
from tidemill.core.slots import SlotLimit

ENV = {"TZ": "UTC", "TOKEN": "c4n4ry-v4lue", "HOOK": "https://hooks.example.org/c4n4ry-p4th"}
HTTP_API = '[blocks.api]\ntype = "http_api"\nbase_url = "https://api.example.org/v1"\n'

# A block's table -> what it holds.
BLOCKS: dict[str, Block] = {
    '[blocks.token]\ntype = "secret"\nvalue = { env = "TOKEN" }\n': Block(
        name="token", type=BlockType.SECRET, fields={"value": {"env": "TOKEN"}}, secrets=(("value",),)
    ),
    # In a JSON value a table that looks like a reference is data.
    '[blocks.data]\ntype = "json"\nvalue = { env = "TOKEN", n = [1, 2.5] }\n': Block(
        name="data", type=BlockType.JSON, fields={"value": {"env": "TOKEN", "n": [1, 2.5]}}
    ),
    '[blocks.hook]\ntype = "webhook"\nurl = { env = "HOOK" }\nmethod = "put"\ndescription = "d"\n': Block(
        name="hook",
        type=BlockType.WEBHOOK,
        fields={"method": "PUT", "headers": {}, "url": {"env": "HOOK"}},
        secrets=(("url",),),
        description="d",
    ),
    '[blocks.hook]\ntype = "webhook"\nurl = "https://hooks.example.org/x"\n': Block(
        name="hook",
        type=BlockType.WEBHOOK,
        fields={"method": "POST", "headers": {}, "url": "https://hooks.example.org/x"},
    ),
    HTTP_API: Block(
        name="api",
        type=BlockType.HTTP_API,
        fields={"headers": {}, "auth": None, "base_url": "https://api.example.org/v1"},
    ),
    HTTP_API
    + 'headers = { Accept = "a/b", X-Key = { env = "TOKEN" } }\nauth = { bearer = { env = "TOKEN" } }\n': Block(
        name="api",
        type=BlockType.HTTP_API,
        fields={
            "headers": {"Accept": "a/b", "X-Key": {"env": "TOKEN"}},
            "auth": {"bearer": {"env": "TOKEN"}},
            "base_url": "https://api.example.org/v1",
        },
        secrets=(("headers", "X-Key"), ("auth", "bearer")),
    ),
    HTTP_API + 'auth = { basic = { username = "me", password = { env = "TOKEN" } } }\n': Block(
        name="api",
        type=BlockType.HTTP_API,
        fields={
            "headers": {},
            "auth": {"basic": {"username": "me", "password": {"env": "TOKEN"}}},
            "base_url": "https://api.example.org/v1",
        },
        secrets=(("auth", "basic", "password"),),
    ),
}


@pytest.mark.parametrize("text", BLOCKS)
def test_a_block_is_what_its_table_says(text: str, load_text: Callable[..., Loaded]) -> None:
    loaded = load_text(text, ENV)
    assert list(loaded.settings.blocks.values()) == [BLOCKS[text]]
    assert loaded.warnings == ()
    assert "c4n4ry" not in repr(loaded.settings)


def test_a_resolved_block_holds_its_secrets_and_the_block_itself_does_not() -> None:
    """P14: the settings keep references; each is fetched at the moment it is asked for."""
    asked: list[SecretRef] = []

    def reveal(ref: SecretRef) -> str:
        asked.append(ref)
        return "v4lue"

    block = next(block for text, block in BLOCKS.items() if "X-Key" in text)
    assert resolved(block, reveal) == {
        "type": "http_api",
        "name": "api",
        "base_url": "https://api.example.org/v1",
        "headers": {"Accept": "a/b", "X-Key": "v4lue"},
        "auth": {"bearer": "v4lue"},
    }
    assert asked == [SecretRef(env="TOKEN"), SecretRef(env="TOKEN")]
    assert "v4lue" not in repr(block)


# What is wrong -> what is said, with its place.
FAULTS = {
    "[blocks.a]\nvalue = 1\n": (
        '1:9 blocks.a: does not say what kind of block it is; add type = "secret", "json", "webhook" or "http_api"'
    ),
    '[blocks.a]\ntype = "secrets"\n': '2:8 blocks.a.type: "secrets" is no type of block; did you mean "secret"?',
    "[blocks.a]\ntype = 1\n": "2:8 blocks.a.type: 1 is no type of block; there are secret, json, webhook, http_api",
    '[blocks.a]\ntype = "secret"\n': '1:9 blocks.a: a secret block needs value; write value = { env = "API_TOKEN" }',
    '[blocks.a]\ntype = "secret"\nvalue = "s3cret"\n': (
        "3:9 blocks.a.value: a secret is named, never written; "
        'write { env = "NAME" }, { credential = "name" } or { file = "/path" }'
    ),
    '[blocks.a]\ntype = "secret"\nvalue = { env = "NOT_SET" }\n': (
        "3:9 blocks.a.value: environment variable NOT_SET is not set; set it: Environment=NOT_SET=… or export it"
    ),
    '[blocks.a]\ntype = "secret"\nvalue = { env = "TOKEN", file = "x" }\n': (
        "3:9 blocks.a.value: names more than one place for a secret; "
        'write { env = "NAME" }, { credential = "name" } or { file = "/path" }'
    ),
    '[blocks.a]\ntype = "json"\nvalue = 1\nvalues = 2\n': (
        '4:1 blocks.a.values: is no key of this table; did you mean "value"?'
    ),
    '[blocks.a]\ntype = "webhook"\nurl = "hooks.example.org"\n': (
        '3:7 blocks.a.url: "hooks.example.org" is not the URL of a web address; write it as "https://host/path"'
    ),
    '[blocks.a]\ntype = "webhook"\nurl = "https://h/"\nmethod = "FETCH"\n': (
        '4:10 blocks.a.method: "FETCH" is no method of a webhook; write GET, POST, PUT, PATCH or DELETE'
    ),
    HTTP_API + "headers = { X-N = 1 }\n": (
        "4:19 blocks.api.headers.X-N: 1 is a whole number, not text; write text, or a secret's reference"
    ),
    HTTP_API + 'auth = { bearer = "a", basic = {} }\n': (
        "4:8 blocks.api.auth: needs exactly one of bearer and basic; "
        'write { bearer = { env = "TOKEN" } } or { basic = { username = "me", password = { env = "PASSWORD" } } }'
    ),
    HTTP_API + 'auth = { basic = { username = "a" } }\n': (
        "4:18 blocks.api.auth.basic: basic needs username and password, and nothing else; "
        'write { bearer = { env = "TOKEN" } } or { basic = { username = "me", password = { env = "PASSWORD" } } }'
    ),
    "[blocks]\na = 1\n": "2:5 blocks.a: 1 is a whole number, not a table; write it as a table: [blocks.a]",
    "[concurrency_limits.a]\n": "1:21 concurrency_limits.a: does not say how many slots there are; add limit = 5",
    "[concurrency_limits.a]\nlimit = 0\n": (
        "2:9 concurrency_limits.a.limit: 0 is not in 1–1000000; write a whole number from 1 to 1000000"  # noqa: RUF001
    ),
    "[concurrency_limits.a]\nlimit = 1\nslot_decay_per_secnd = 1\n": (
        '3:1 concurrency_limits.a.slot_decay_per_secnd: is no key of this table; did you mean "slot_decay_per_second"?'
    ),
    "[concurrency_limit.a]\nlimit = 1\n": (
        '1:2 concurrency_limit: is no table of this file; did you mean "concurrency_limits"?'
    ),
}


@pytest.mark.parametrize("text", FAULTS)
def test_what_is_wrong_is_told_with_its_place_and_remedy(text: str, faults_of: Callable[..., list[str]]) -> None:
    assert faults_of(text, ENV) == [f"tidemill.toml:{FAULTS[text]}"]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (HTTP_API + 'auth = { bearer = "t0ken" }\n', "auth.bearer"),
        (HTTP_API + 'headers = { X-Api-Key = "t0ken" }\n', "headers.X-Api-Key"),
        ('[blocks.api]\ntype = "http_api"\nbase_url = "https://me:pw@h/"\n', "base_url"),
    ],
)
def test_a_secret_in_plain_text_is_warned_of(text: str, at: str, load_text: Callable[..., Loaded]) -> None:
    (warning,) = load_text(text, ENV).warnings
    assert warning.key == f"blocks.api.{at}"
    assert warning.problem == "looks like a secret in plain text"


def test_a_concurrency_limit_is_what_its_table_says(load_text: Callable[..., Loaded]) -> None:
    text = "[concurrency_limits.db]\nlimit = 5\n[concurrency_limits.api]\nlimit = 10\nslot_decay_per_second = 2.5\n"
    assert load_text(text).settings.concurrency_limits == {
        "db": SlotLimit(name="db", limit=5),
        "api": SlotLimit(name="api", limit=10, slot_decay_per_second=2.5),
    }


def test_blocks_of_the_last_good_set_do_without_a_secret_that_is_gone(load_text: Callable[..., Loaded]) -> None:
    """P8: what needs the secret fails and says so; the rest runs."""
    loaded = load_text('[blocks.token]\ntype = "secret"\nvalue = { env = "TOKEN" }\n', ENV)
    save_last_good(loaded, Path())
    again = load_last_good(Path(), environ={"TZ": "UTC"})
    assert again is not None
    assert again.settings.blocks == loaded.settings.blocks
    assert [warning.key for warning in again.warnings] == ["blocks.token.value"]
