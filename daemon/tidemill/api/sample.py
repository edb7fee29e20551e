"""A small JSON API for the quickstart: something to do, chosen at random, in the shape of the Bored API."""

from __future__ import annotations

import random
from typing import Any

# activity, type, participants, price (0 free to 1 dear), accessibility, minutes
ACTIVITIES: tuple[tuple[str, str, int, float, str, int], ...] = (
    ("Learn the names of ten trees on your street", "education", 1, 0.0, "Few to no challenges", 60),
    ("Bake a loaf of rye bread", "cooking", 1, 0.1, "Minor challenges", 240),
    ("Repair something that was going to be thrown away", "diy", 1, 0.2, "Minor challenges", 120),
    ("Walk to the nearest water and back", "relaxation", 1, 0.0, "Few to no challenges", 90),
    ("Play a board game that nobody at the table knows", "social", 4, 0.3, "Few to no challenges", 120),
    ("Write a letter by hand", "relaxation", 1, 0.05, "Few to no challenges", 45),
    ("Sort one drawer, only one", "busywork", 1, 0.0, "Few to no challenges", 30),
    ("Record the birds you hear for an hour", "recreational", 1, 0.0, "Few to no challenges", 60),
    ("Cook a dish from a country you have never visited", "cooking", 2, 0.3, "Minor challenges", 90),
    ("Offer an hour to a neighbourhood project", "charity", 1, 0.0, "Minor challenges", 60),
    ("Sing a round with two friends", "music", 3, 0.0, "Few to no challenges", 20),
    ("Draw the view from your window", "recreational", 1, 0.05, "Few to no challenges", 60),
    ("Check that your backups can be restored", "busywork", 1, 0.0, "Minor challenges", 45),
    ("Learn to tie a bowline behind your back", "education", 1, 0.0, "Few to no challenges", 15),
    ("Plant something that can be eaten in spring", "diy", 1, 0.15, "Minor challenges", 60),
    ("Read a short story aloud to somebody", "social", 2, 0.0, "Few to no challenges", 40),
)


def activity(source: random.Random) -> dict[str, Any]:
    """Return one activity; ``key`` is the same each time the same activity comes up."""
    index = source.randrange(len(ACTIVITIES))
    text, kind, participants, price, accessibility, minutes = ACTIVITIES[index]
    return {
        "activity": text,
        "type": kind,
        "participants": participants,
        "price": price,
        "accessibility": accessibility,
        "duration": "minutes" if minutes < 120 else "hours",
        "kidFriendly": True,
        "link": "",
        "key": str(1000 + 37 * index),
    }
