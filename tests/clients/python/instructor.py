"""instructor: validated answers in its modes, whole, in parts and as lists."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import instructor
from instructor import Mode
from instructor.core.exceptions import IncompleteOutputException, InstructorRetryException
from openai import AsyncOpenAI, OpenAI
from pydantic import AfterValidator, BaseModel, Field

MODEL = os.environ["RAPPORT_MODEL"]
HOME = os.environ["RAPPORT_URL"] + "/v1"
ASKED: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Rome has 3 million people."}],
    "temperature": 0,
    "max_tokens": 100,
    "max_retries": 0,
}


class City(BaseModel):
    """A city and how many people live there."""

    name: Literal["Paris", "Rome"]
    millions: int = Field(ge=1, le=9)


def client(mode: Mode) -> instructor.Instructor:
    inner = OpenAI(base_url=HOME, api_key="none", max_retries=0)
    return instructor.from_openai(inner, mode=mode)


def answers(mode: Mode) -> None:
    city, answer = client(mode).chat.completions.create_with_completion(
        **ASKED, response_model=City
    )
    assert type(city).__name__ == "City"
    assert city.name in {"Paris", "Rome"}
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def case_tools() -> None:
    answers(Mode.TOOLS)


def case_tools_strict() -> None:
    answers(Mode.TOOLS_STRICT)


def case_json_schema() -> None:
    answers(Mode.JSON_SCHEMA)


def case_json() -> None:
    """The schema is in the prompt here and only JSON is enforced, so the model may miss it."""
    try:
        answers(Mode.JSON)
    except (IncompleteOutputException, InstructorRetryException) as error:
        text = error.last_completion.choices[0].message.content
        assert text.lstrip().startswith("{")


async def case_async() -> None:
    for mode in (Mode.TOOLS, Mode.JSON_SCHEMA):
        inner = AsyncOpenAI(base_url=HOME, api_key="none", max_retries=0)
        async with inner:
            aclient = instructor.from_openai(inner, mode=mode)
            city = await aclient.chat.completions.create(**ASKED, response_model=City)
        assert city.millions in range(1, 10)


def case_partial() -> None:
    for mode in (Mode.TOOLS, Mode.JSON_SCHEMA):
        parts = list(client(mode).chat.completions.create_partial(**ASKED, response_model=City))
        assert len(parts) > 1
        assert City.model_validate(parts[-1].model_dump())


def case_iterable() -> None:
    """A list of objects, as a stream of them."""

    class Short(City):
        """A city."""

    asked = ASKED | {"max_tokens": 60}
    for mode in (Mode.TOOLS, Mode.JSON_SCHEMA):
        made = client(mode).chat.completions.create_iterable(**asked, response_model=Short)
        for city in made:
            assert city.name in {"Paris", "Rome"}
            break


def case_second_try() -> None:
    """A refused answer is sent back with the reason and asked for again."""
    seen: list[str] = []

    def refuse_first(name: str) -> str:
        seen.append(name)
        if len(seen) == 1:
            raise ValueError("say it again")
        return name

    class Picky(BaseModel):
        name: Annotated[Literal["Paris", "Rome"], AfterValidator(refuse_first)]

    for mode in (Mode.TOOLS, Mode.JSON_SCHEMA):
        seen.clear()
        asked = ASKED | {"max_retries": 2}
        made = client(mode).chat.completions.create(**asked, response_model=Picky)
        assert made.name in {"Paris", "Rome"}
        assert len(seen) == 2
