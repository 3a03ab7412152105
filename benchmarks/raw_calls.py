"""The limit of `label_calls`: bare aiohttp against the same model server, 200 calls in flight."""

from __future__ import annotations

import argparse
import asyncio
import json
import time

import aiohttp

from app.domain import prompting
from app.domain.kinds.single_choice import SingleChoiceSchema
from app.domain.labels import LabelSet
from app.labeling.question import Question
from benchmarks.fill import LABELS


async def calls(url: str, *, count: int, in_flight: int) -> dict[str, float]:
    """When it ran and CPU milliseconds a call, bodies and answers as a drain has them."""
    schema = SingleChoiceSchema(LabelSet.of(LABELS))
    system = prompting.system_prompt(schema, instructions="")
    question = Question(
        "scripted-test-model", system, schema, {"temperature": 0.0, "top_logprobs": 20}
    )
    left = iter(range(count))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:

        async def client() -> None:
            for number in left:
                prompt = prompting.build_prompt(system, {"text": f"text {number}"})
                body = json.dumps(question.request(prompt).body)
                headers = {"Content-Type": "application/json"}
                async with session.post(
                    f"{url}/chat/completions", data=body, headers=headers
                ) as answer:
                    json.loads(await answer.read())

        began, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*(client() for _ in range(in_flight)))
        ended, spent = time.monotonic(), time.process_time() - cpu
    return {"began": began, "ended": ended, "count": count, "cpu_ms": spent * 1000 / count}


def main() -> None:
    """Prints the rate as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, default=4000)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(calls(given.url, count=given.count, in_flight=200))))


if __name__ == "__main__":
    main()
