"""Names and numbers for things, drawn from a random source that is an argument."""

from __future__ import annotations

import random
import uuid
from datetime import datetime

from tidemill.clock import to_us

_ADJECTIVES = (
    "able amber apt azure bold brave brisk calm candid clear clever cosy crisp daring deft eager early fair fleet "
    "fresh frosty gentle glad golden grand green hardy honest humble jolly keen kind light lively lucid lucky "
    "mellow merry mild modest neat nimble noble open patient placid plucky polite prime proud quick quiet rapid "
    "ready rosy royal sage silver sleek snug solid spry steady still sunny swift tidy true vivid warm wise witty "
    "young zesty"
).split()
_ANIMALS = (
    "badger beaver bison bittern bunting crane curlew deer dipper dolphin dove duck dunlin eagle egret eider elk "
    "ermine falcon finch fox gannet gecko godwit goose grebe grouse gull hare hawk heron hobby ibis jackdaw kestrel "
    "kite knot lapwing lark linnet lynx magpie marten merlin mole moose newt ocelot orca osprey otter owl petrel "
    "pike pipit plover puffin quail rail raven robin rook ruff salmon seal shrike siskin skua smew snipe sparrow "
    "stoat stork swallow swan swift teal tern thrush trout vole wagtail walrus weasel wigeon wolf wren"
).split()


class Ids:
    """Identifiers and seeds from one random source, so that a seeded run of the daemon repeats itself."""

    def __init__(self, source: random.Random | None = None) -> None:
        self.random = source if source is not None else random.SystemRandom()

    def new(self, now: datetime) -> str:
        """Return a new UUID (version 7, RFC 9562): ordered by time, so index pages fill one after another."""
        value = (to_us(now) // 1000 & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | self.random.getrandbits(12) << 64
        value |= 0b10 << 62 | self.random.getrandbits(62)
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def name(self) -> str:
        """Return a name for a run that people can say: ``brisk-otter``."""
        # randrange is slow enough to matter once a run; 16 bits spread over some 80 words are even enough for a name.
        bits = self.random.getrandbits(32)
        return f"{_ADJECTIVES[(bits >> 16) % len(_ADJECTIVES)]}-{_ANIMALS[(bits & 0xFFFF) % len(_ANIMALS)]}"


def stable_id(instance: str, kind: str, name: str) -> str:
    """Return the UUID of a configured thing: the same over restarts and reloads, different between instances."""
    return str(uuid.uuid5(uuid.UUID(instance), f"{kind}/{name}"))
