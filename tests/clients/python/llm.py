"""The llm command with an extra OpenAI model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from llm.default_plugins.openai_models import Chat

MODEL = os.environ["RAPPORT_MODEL"]
HOME = os.environ["RAPPORT_URL"] + "/v1"
QUESTION = "What is the capital of France?"
SHORT = ["-o", "temperature", "0", "-o", "max_tokens", "12"]
FOLDER = Path.home() / "llm"
MODELS = f"""
- model_id: rapport
  model_name: {MODEL}
  api_base: {HOME}
  supports_schema: true
  supports_tools: true
"""

FOLDER.mkdir(exist_ok=True)
(FOLDER / "extra-openai-models.yaml").write_text(MODELS)


def llm(*arguments: str, ends: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [Path(sys.executable).with_name("llm"), *arguments],
        env=os.environ | {"LLM_USER_PATH": str(FOLDER)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ends, done.stderr
    return done


def last() -> dict[str, Any]:
    return json.loads(llm("logs", "list", "--json", "-n", "1").stdout)[0]


def case_stream() -> None:
    said = llm("-m", "rapport", *SHORT, QUESTION).stdout.strip()
    assert said
    logged = last()
    assert logged["response"].strip() == said
    assert logged["input_tokens"] > 0
    assert 0 < logged["output_tokens"] <= 12


def case_whole() -> None:
    streamed = llm("-m", "rapport", *SHORT, QUESTION).stdout
    counted = last()
    assert llm("-m", "rapport", *SHORT, "--no-stream", QUESTION).stdout == streamed
    for count in ("input_tokens", "output_tokens"):
        assert last()[count] == counted[count]


def case_async() -> None:
    plain = llm("-m", "rapport", *SHORT, QUESTION).stdout
    assert llm("-m", "rapport", *SHORT, "--async", QUESTION).stdout == plain


def case_conversation() -> None:
    llm("-m", "rapport", *SHORT, "-s", "You are brief.", QUESTION)
    first = last()
    assert llm("-c", *SHORT, "Thank you. And of Italy?").stdout.strip()
    second = last()
    assert second["conversation_id"] == first["conversation_id"]
    assert second["input_tokens"] > first["input_tokens"]


def case_options() -> None:
    options = {"top_p": "0.9", "frequency_penalty": "0.1", "presence_penalty": "0.1"}
    options |= {"stop": "zzz", "seed": "3", "logit_bias": '{"100": -1}'}
    given = [word for name, value in options.items() for word in ("-o", name, value)]
    assert llm("-m", "rapport", *SHORT, *given, QUESTION).stdout.strip()


def case_json_object() -> None:
    said = llm("-m", "rapport", *SHORT, "-o", "json_object", "1", f"{QUESTION} In JSON.").stdout
    assert said.lstrip().startswith("{")


def case_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["Paris", "Rome"]}, "big": {"type": "boolean"}},
        "required": ["name", "big"],
    }
    asked = ["-m", "rapport", "-o", "temperature", "0", "--schema", json.dumps(schema)]
    for rest in ([], ["--no-stream"]):
        said = json.loads(llm(*asked, *rest, "Describe a city.").stdout)
        assert said["name"] in {"Paris", "Rome"}
        assert isinstance(said["big"], bool)


def case_tools() -> None:
    """The command cannot force a call; what the model decides ends well, by either path."""
    function = 'def get_weather(city: str) -> str:\n    "Weather of a city."\n    return "Sunny."\n'
    asked = ["-m", "rapport", *SHORT, "--functions", function]
    for rest in ([], ["--no-stream"]):
        llm(*asked, *rest, "What is the weather in Rome?")
        assert last()["output_tokens"] > 0


def case_tool_round_trip() -> None:
    """The library under the command calls a tool and goes on with its result.

    It has no option that forces a call, so a model of our own adds it, as a plugin would.
    """
    asked: list[str] = []

    def get_weather(city: Literal["Paris", "Rome"]) -> str:
        """Looks up the weather of a city."""
        asked.append(city)
        return "Sunny."

    class Forced(Chat):
        def build_kwargs(self, prompt: Any, stream: bool) -> dict[str, Any]:
            answered = any(message.role == "tool" for message in prompt.messages)
            choice = {"tool_choice": "none" if answered else "required"}
            choice |= {"parallel_tool_calls": False}
            return super().build_kwargs(prompt, stream) | choice

    model = Forced("forced", model_name=MODEL, api_base=HOME, supports_tools=True)
    model.needs_key = None
    for stream in (True, False):
        asked.clear()
        options = {"temperature": 0, "max_tokens": 40}
        chain = model.chain(
            "What is the weather in Rome?", tools=[get_weather], options=options, stream=stream
        )
        first, second = chain.responses()
        assert [call.name for call in first.tool_calls()] == ["get_weather"]
        assert second.text()
        assert asked in (["Paris"], ["Rome"])


def case_error() -> None:
    failed = llm("-m", "rapport", *SHORT, "word " * 9000, ends=1)
    assert "prompt is too long" in failed.stderr
