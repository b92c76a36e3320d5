"""Facts are remembered by name."""

from core.store import Store


async def test_a_fact_is_what_was_last_said(store: Store) -> None:
    assert await store.facts.get("commands") is None
    await store.facts.set("commands", "abc")
    await store.facts.set("commands", "def")
    assert await store.facts.get("commands") == "def"


async def test_a_fact_that_is_settled_stays_what_it_was(store: Store) -> None:
    assert await store.facts.settle("name", "first") == "first"
    assert await store.facts.settle("name", "second") == "first"
