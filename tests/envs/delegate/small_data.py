"""A corpus of sentences about films, and questions of two hops about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DIRECTORS = ("Ada Moss", "Bob Lunt", "Cem Orhan", "Dan Ray")
CITIES = ("Turin", "Oslo", "Lima", "Cork")
FILLERS = 600


def passages() -> list[dict[str, str]]:
    """Four films, their directors, and 600 passages of 25 words about nothing in question."""
    rows = [
        {"title": f"Film {i}", "text": f"It is old. It was directed by {name}."} for i, name in enumerate(DIRECTORS)
    ]
    rows += [
        {"title": name, "text": f"{name} was born in {city}."} for name, city in zip(DIRECTORS, CITIES, strict=True)
    ]
    return rows + [{"title": f"Note {i}", "text": f"Number {i} " + "is of no use " * 5 + "."} for i in range(FILLERS)]


def questions() -> list[dict[str, Any]]:
    """Where the director of each film was born; what supports it is named by title."""
    return [
        {
            "id": f"q{i}",
            "question": f"Where was the director of Film {i} born?",
            "answer": [city, f"{city} city"],
            "metadata": {"supporting": [f"Film {i}", name], "decomposition": [{"answer": name}, {"answer": city}]},
        }
        for i, (name, city) in enumerate(zip(DIRECTORS, CITIES, strict=True))
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write JSON Lines; returns the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def write_data(folder: Path) -> dict[str, Any]:
    """Arguments of the environment."""
    return {
        "corpus": write(folder / "corpus.jsonl", passages()),
        "questions": write(folder / "questions.jsonl", questions()),
    }
