"""Every attack with random sizes, which come from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.hostile.attacks import (
    chats,
    disconnects,
    junk,
    keys,
    pipelining,
    rpcs,
    unfinished,
    unread,
)


@dataclass(frozen=True)
class Scene:
    """What an attacker knows: addresses, and keys of others than the bystander."""

    rest: str
    grpc: str
    metrics: tuple[str, str]
    keys: tuple[str, ...]


@dataclass
class Dice:
    """Sizes of one attack, from its seed."""

    scene: Scene
    random: Random
    whole: Callable[[int, int], int] = field(init=False)

    def __post_init__(self) -> None:
        self.whole = self.random.randint

    @property
    def key(self) -> str:
        """One of the attackers' keys."""
        return self.random.choice(self.scene.keys)

    @property
    def any_key(self) -> str:
        """A valid key, a wrong one or none."""
        return self.random.choice([*self.scene.keys, "wrong", ""])

    @property
    def seconds(self) -> float:
        return self.random.uniform(0.1, 5)

    @property
    def seed(self) -> int:
        return self.random.randrange(1 << 30)

    def either(self) -> bool:
        return self.random.random() < 1 / 2


def pipelined(scene: Scene, dice: Dice) -> None:
    request = dice.random.choice([pipelining.GET, pipelining.HEALTH])
    size = dice.whole(1, 8 << 20)
    pipelining.pipeline(scene.rest, size_bytes=size, seconds=dice.seconds, request=request)


def unfinished_heads(scene: Scene, dice: Dice) -> None:
    address = dice.random.choice([scene.rest, scene.grpc])
    size = dice.whole(0, 60_000)
    unfinished.unfinished_heads(
        address, count=dice.whole(1, 100), size_bytes=size, seconds=dice.seconds
    )


def unfinished_bodies(scene: Scene, dice: Dice) -> None:
    size = dice.whole(1, 4 << 20)
    unfinished.unfinished_bodies(
        scene.rest, count=dice.whole(1, 50), size_bytes=size, seconds=dice.seconds
    )


def slow_bodies(scene: Scene, dice: Dice) -> None:
    unfinished.slow_bodies(scene.rest, count=dice.whole(1, 50), seconds=dice.seconds)


def unread_rest(scene: Scene, dice: Dice) -> None:
    unread.unread_answers(
        scene.rest, dice.key, count=dice.whole(1, 8), seconds=dice.seconds, stream=dice.either()
    )


def unread_grpc(scene: Scene, dice: Dice) -> None:
    rpcs.unread_chats(
        scene.grpc, dice.key, calls=dice.whole(1, 8), seconds=dice.seconds, stream=dice.either()
    )


def watchers(scene: Scene, dice: Dice) -> None:
    rpcs.watchers(
        scene.grpc, clients=dice.whole(1, 5), calls=dice.whole(1, 200), seconds=dice.seconds
    )


def calls_without_message(scene: Scene, dice: Dice) -> None:
    clients, calls = dice.whole(1, 5), dice.whole(1, 200)
    rpcs.calls_without_message(
        scene.grpc, dice.any_key, clients=clients, calls=calls, seconds=dice.seconds
    )


def resets(scene: Scene, dice: Dice) -> None:
    path = dice.random.choice([rpcs.CREATE_CHAT, rpcs.WATCH, rpcs.REFLECTION])
    count, clients = dice.whole(1, 5000), dice.whole(1, 8)
    rpcs.resets(scene.grpc, dice.any_key, count=count, clients=clients, path=path)


def reflection(scene: Scene, dice: Dice) -> None:
    clients, count = dice.whole(1, 3), dice.whole(1, 20_000)
    rpcs.reflect(scene.grpc, clients=clients, count=count, seconds=dice.seconds)


def junk_messages(scene: Scene, dice: Dice) -> None:
    path = dice.random.choice([rpcs.WATCH, rpcs.REFLECTION, rpcs.CREATE_CHAT])
    rpcs.junk_messages(scene.grpc, path, calls=dice.whole(1, 200), seed=dice.seed)


def noise(scene: Scene, dice: Dice) -> None:
    address = dice.random.choice([scene.rest, scene.grpc, *scene.metrics])
    size = dice.whole(1, 100_000)
    junk.noise(address, clients=dice.whole(1, 10), size_bytes=size, seed=dice.seed)


def slow_scrapes(scene: Scene, dice: Dice) -> None:
    metrics = dice.random.choice(scene.metrics)
    junk.slow_scrapes(metrics, clients=dice.whole(1, 40), seconds=dice.seconds)


def wrong_keys(scene: Scene, dice: Dice) -> None:
    size = dice.whole(1, 1 << 20)
    keys.wrong_keys(scene.rest, count=dice.whole(1, 20), size_bytes=size, seed=dice.seed)


def two_keys(scene: Scene, dice: Dice) -> None:
    keys.two_keys(scene.rest, dice.key, count=dice.whole(1, 10))


def ambiguous_grammar(scene: Scene, dice: Dice) -> None:
    chats.ambiguous_grammar(scene.rest, dice.key, n=dice.whole(1, 16))


def hard_schemas(scene: Scene, dice: Dice) -> None:
    count, properties = dice.whole(1, 5), dice.whole(1, 600)
    chats.hard_schemas(scene.rest, dice.key, count=count, properties=properties, seed=dice.seed)


def long_truncations(scene: Scene, dice: Dice) -> None:
    count, turns, words = dice.whole(1, 6), dice.whole(1, 50), dice.whole(1, 5000)
    chats.long_truncations(scene.rest, dice.key, count=count, turns=turns, words=words)


def long_tokenizations(scene: Scene, dice: Dice) -> None:
    count, digits = dice.whole(1, 6), dice.whole(1, 1_000_000)
    chats.long_tokenizations(scene.rest, dice.key, count=count, digits=digits)


def deep_json(scene: Scene, dice: Dice) -> None:
    chats.deep_json(scene.rest, dice.key, depth=dice.whole(1, 120), count=dice.whole(1, 8))


def many_mistakes(scene: Scene, dice: Dice) -> None:
    chats.many_mistakes(scene.rest, dice.key, items=dice.whole(1, 500_000), count=1)


def large_n(scene: Scene, dice: Dice) -> None:
    chats.large_n(scene.rest, dice.key, n=dice.whole(1, 128), max_tokens=dice.whole(1, 40))


def long_predictions(scene: Scene, dice: Dice) -> None:
    count, characters = dice.whole(1, 6), dice.whole(1, 1_000_000)
    chats.long_predictions(scene.rest, dice.key, count=count, characters=characters)


def long_prompts(scene: Scene, dice: Dice) -> None:
    count, characters = dice.whole(1, 6), dice.whole(1, 4_000_000)
    chats.long_prompts(scene.rest, dice.key, count=count, characters=characters)


def many_tools(scene: Scene, dice: Dice) -> None:
    count, tools, properties = dice.whole(1, 4), dice.whole(1, 128), dice.whole(1, 50)
    chats.many_tools(scene.rest, dice.key, count=count, tools=tools, properties=properties)


def heavy_sampling(scene: Scene, dice: Dice) -> None:
    count, n, max_tokens = dice.whole(1, 4), dice.whole(1, 16), dice.whole(1, 100)
    chats.heavy_sampling(scene.rest, dice.key, count=count, n=n, max_tokens=max_tokens)


def trickle(scene: Scene, dice: Dice) -> None:
    rpcs.trickle(scene.grpc, dice.key, calls=dice.whole(1, 20), seconds=dice.seconds)


def unread_pages(scene: Scene, dice: Dice) -> None:
    count, pages = dice.whole(1, 50), dice.whole(1, 20)
    unread.unread_pages(scene.rest, count=count, pages=pages, seconds=dice.seconds)


def idle_connections(scene: Scene, dice: Dice) -> None:
    rpcs.idle_connections(scene.grpc, clients=dice.whole(1, 300), seconds=dice.seconds)


def crowd(scene: Scene, dice: Dice) -> None:
    unread.crowd(scene.rest, count=dice.whole(1, 100), seconds=dice.seconds)


def leave_rest(scene: Scene, dice: Dice) -> None:
    disconnects.leave_rest(scene.rest, dice.key, count=dice.whole(1, 20), seed=dice.seed)


def leave_grpc(scene: Scene, dice: Dice) -> None:
    disconnects.leave_grpc(scene.grpc, dice.key, count=dice.whole(1, 20), seed=dice.seed)


Attack = Callable[[Scene, Dice], None]
ATTACKS: tuple[Attack, ...] = (
    pipelined,
    unfinished_heads,
    unfinished_bodies,
    slow_bodies,
    unread_rest,
    unread_grpc,
    watchers,
    calls_without_message,
    resets,
    reflection,
    junk_messages,
    noise,
    slow_scrapes,
    wrong_keys,
    two_keys,
    ambiguous_grammar,
    hard_schemas,
    long_truncations,
    long_tokenizations,
    deep_json,
    many_mistakes,
    large_n,
    long_predictions,
    long_prompts,
    many_tools,
    heavy_sampling,
    trickle,
    unread_pages,
    idle_connections,
    crowd,
    leave_rest,
    leave_grpc,
)
