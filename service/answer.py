"""What the engine generates to the messages of an answer, whole or in pieces."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from rapport.v1.chat_pb2 import (
    AssistantMessage,
    Choice,
    ChoiceDelta,
    CreateChatCompletionResponse,
    FinishReason,
    MessageDelta,
    StreamChatCompletionResponse,
)
from rapport.v1.message_pb2 import Role
from rapport.v1.usage_pb2 import PromptTokensDetails, Usage
from service.engine import request as engine
from service.engine.generation import Generation

FINISH_REASONS = {
    engine.FinishReason.STOP: FinishReason.FINISH_REASON_STOP,
    engine.FinishReason.LENGTH: FinishReason.FINISH_REASON_LENGTH,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What all pieces of an answer share."""

    model: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: int = field(default_factory=lambda: int(time.time()))

    async def whole(self, generation: Generation) -> CreateChatCompletionResponse:
        """The answer in one message."""
        choices = [_Collected() for _ in range(generation.request.n)]
        async for delta in generation:
            choices[delta.index].add(delta)
        return CreateChatCompletionResponse(
            id=self.id,
            object="chat.completion",
            created=self.created,
            model=self.model,
            choices=[choice.message(index) for index, choice in enumerate(choices)],
            usage=usage_of(generation),
        )

    async def pieces(
        self, generation: Generation, *, usage_apart: bool
    ) -> AsyncGenerator[StreamChatCompletionResponse]:
        """The answer as it comes: roles, texts, finish reasons, and usage on the last piece.

        `usage_apart` gives usage a piece of its own instead of the last finish reason's.
        """
        unfinished = n = generation.request.n
        roles_sent = False
        async for delta in generation:
            if not roles_sent:
                roles_sent = True
                for index in range(n):
                    yield self._piece(_role(index))
            if delta.text:
                yield self._piece(_text(delta))
            if delta.finish_reason is not None:
                unfinished -= 1
                with_usage = not (unfinished or usage_apart)
                usage = usage_of(generation) if with_usage else None
                yield self._piece(_finish(delta.index, delta.finish_reason), usage=usage)
        if usage_apart:
            yield self._piece(usage=usage_of(generation))

    def _piece(
        self, *choices: ChoiceDelta, usage: Usage | None = None
    ) -> StreamChatCompletionResponse:
        return StreamChatCompletionResponse(
            id=self.id,
            object="chat.completion.chunk",
            created=self.created,
            model=self.model,
            choices=choices,
            usage=usage,
        )


class _Collected:
    """The deltas of one choice, put together."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._finish_reason = FinishReason.FINISH_REASON_UNSPECIFIED

    def add(self, delta: engine.Delta) -> None:
        self._texts.append(delta.text)
        if delta.finish_reason is not None:
            self._finish_reason = FINISH_REASONS[delta.finish_reason]

    def message(self, index: int) -> Choice:
        said = AssistantMessage(role=Role.ROLE_ASSISTANT, content="".join(self._texts))
        return Choice(index=index, message=said, finish_reason=self._finish_reason)


def usage_of(generation: Generation) -> Usage:
    """What was used so far; the prompt counts once however many choices there are."""
    prompt = len(generation.request.prompt)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=generation.completion_tokens,
        total_tokens=prompt + generation.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=generation.cached_tokens),
    )


def _role(index: int) -> ChoiceDelta:
    return ChoiceDelta(index=index, delta=MessageDelta(role=Role.ROLE_ASSISTANT))


def _text(delta: engine.Delta) -> ChoiceDelta:
    return ChoiceDelta(index=delta.index, delta=MessageDelta(content=delta.text))


def _finish(index: int, reason: engine.FinishReason) -> ChoiceDelta:
    return ChoiceDelta(index=index, delta=MessageDelta(), finish_reason=FINISH_REASONS[reason])
