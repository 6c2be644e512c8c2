"""Chance from the seed alone: what is drawn doesn't depend on which request came first."""

from __future__ import annotations

import random


def chance(*about: object) -> random.Random:
    """A generator that is the same for the same *about*: seed, who draws, for what, for which time."""
    return random.Random(":".join(str(part) for part in about))  # noqa: S311 - misfortune, not secrets


def number_of(intent: str) -> str:
    """The part of an intent's name that is the same in every run with the same seed."""
    return intent.rpartition("-")[2]
