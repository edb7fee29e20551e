"""Which deployments never meet: they share no limit, so what one does changes nothing for another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def groups(things: Mapping[str, T], bounds: Callable[[T], Iterable[str]]) -> list[list[str]]:
    """Return the names in groups: two that have a bound in common, by whatever detour, are in one."""
    parent = {name: name for name in things}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for name, thing in things.items():
        for bound in bounds(thing):
            parent[root(name)] = root(first.setdefault(bound, name))
    found: dict[str, list[str]] = {}
    for name in things:
        found.setdefault(root(name), []).append(name)
    return list(found.values())


def shares(grouped: Sequence[Sequence[str]], weights: Mapping[str, float], count: int) -> list[list[str]]:
    """Deal groups out into up to ``count`` shares of about the same weight, heaviest groups first."""
    dealt: list[list[str]] = [[] for _ in range(count)]
    weight = [0.0] * count
    for group in sorted(grouped, key=lambda names: -sum(weights[name] for name in names)):
        lightest = weight.index(min(weight))
        dealt[lightest] += group
        weight[lightest] += sum(weights[name] for name in group) + 1e-9
    return [share for share in dealt if share]
