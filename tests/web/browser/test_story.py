"""The tree of a story, on its own: the module as the page loads it, run in the browser."""

from typing import Any

import pytest
from playwright.async_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


PRELUDE = """
    const { Story, difference } = await import("/static/story.js");
    const s = new Story();
    const type = (at, inserted, removed = 0, time = 0) => s.edit({ at, removed, inserted }, time);
    const add = (text) => { const node = s.continueAt(); s.grow(node.id, text); return node; };
"""


async def run(page: Page, script: str) -> Any:
    """Run a script with an empty story `s`, and `add` for a continuation that has been written."""
    return await page.evaluate(f"async () => {{ {PRELUDE} {script} }}")


async def test_typing_without_a_pause_is_one_step_of_undo(modules: Page) -> None:
    steps = "type(0, 'Once', 0, 0); type(4, ' upon', 0, 500); type(8, 'n a time', 1, 900);"
    assert await run(modules, steps + "return [s.text(), s.path().length]") == ["Once upon a time", 1]


async def test_typing_after_a_pause_is_a_step_of_its_own(modules: Page) -> None:
    steps = "type(0, 'Once', 0, 0); type(4, ' upon', 0, 5000); s.undo();"
    assert await run(modules, steps + "return s.text()") == "Once"


async def test_deleting_back_into_older_text_joins_the_open_step(modules: Page) -> None:
    steps = "type(0, 'The old fox', 0, 0); type(11, 'es', 0, 9000); type(8, '', 5, 9100);"
    assert await run(modules, steps + "const now = s.text(); s.undo(); return [now, s.text()]") == [
        "The old ",
        "The old fox",
    ]


async def test_undo_and_redo_walk_the_branch_that_was_left(modules: Page) -> None:
    steps = (
        "type(0, 'A'); const first = add(' b'); s.undo(); const second = add(' c'); s.go(first.id); s.undo(); s.redo();"
    )
    assert await run(modules, steps + "return [s.text(), s.children.get(first.parent).length]") == ["A b", 2]


async def test_a_retry_is_a_sibling_and_loses_nothing(modules: Page) -> None:
    steps = "type(0, 'A'); const one = add(' b'); const two = s.retry(); s.grow(two.id, ' c');"
    assert await run(modules, steps + "return [s.text(), s.text(one.id), one.parent === two.parent]") == [
        "A c",
        "A b",
        True,
    ]


async def test_a_retry_after_an_edit_keeps_the_edit(modules: Page) -> None:
    steps = "type(0, 'A fox', 0, 0); add(' sat.'); type(0, 'One', 1, 9000); const again = s.retry();"
    assert await run(modules, steps + "s.grow(again.id, ' ran.'); return s.text()") == "One fox ran."


async def test_there_is_nothing_to_retry_where_the_writers_words_stand_last(modules: Page) -> None:
    steps = "type(0, 'A', 0, 0); add(' b'); type(3, ' c', 0, 9000);"
    assert await run(modules, steps + "return s.retry()") is None


async def test_a_branch_in_the_middle_leaves_the_old_ending_on_its_own_branch(modules: Page) -> None:
    steps = "type(0, 'The'); const old = add(' red fox ran'); const hen = s.continueAt(7, ' hen');"
    expected = ["The red hen slept", "The red fox ran", "The red hen"]
    assert (
        await run(modules, steps + "s.grow(hen.id, ' slept'); return [s.text(), s.text(old.id), s.prompt(hen.id)]")
        == expected
    )


async def test_what_is_left_of_a_word_is_found_with_what_was_typed_into_it(modules: Page) -> None:
    steps = "type(0, 'A', 0, 0); const told = add(' wonderful day'); type(4, 'X', 4, 9000);"
    expected = ["A woXful day", {"from": 1, "to": 8}, {"from": 2, "to": 8}, None]
    found = "[s.text(), s.remains(told.id, 0, 10), s.remains(told.id, 1, 10), s.remains(told.id, 3, 7)]"
    assert await run(modules, f"{steps} return {found}") == expected


async def test_a_branch_hangs_where_its_beginning_was_written(modules: Page) -> None:
    steps = (
        "type(0, 'The', 0, 0); const fox = add(' fox'); const ran = add(' ran'); const hen = s.continueAt(3, ' hen');"
    )
    assert await run(modules, steps + "return hen.parent === fox.parent && hen.removed === 0") is True


async def test_words_typed_while_the_model_writes_stay_where_they_are(modules: Page) -> None:
    steps = """
        type(0, 'Once.', 0, 0);
        const live = s.continueAt(); s.grow(live.id, ' The fox');
        type(4, ' upon a time', 0, 9000); type(live.at + 12 + 8, ' END', 0, 99000);
        s.grow(live.id, ' ran'); s.grow(live.id, ' home');
        return [s.text(), s.node(live.id).inserted];"""
    assert await run(modules, steps) == ["Once upon a time. The fox ran home END", " The fox ran home"]


async def test_what_comes_late_into_deleted_text_is_deleted_with_it(modules: Page) -> None:
    steps = "type(0, 'A', 0, 0); const live = s.continueAt(); s.grow(live.id, ' b'); type(3, ' end', 0, 9000);"
    deleted = "type(1, '', 4, 99000); s.grow(live.id, ' c');"
    assert await run(modules, steps + deleted + "return [s.text(), s.seam(live.id)]") == ["And", None]


async def test_a_record_taken_in_from_another_tab_adds_its_branches(modules: Page) -> None:
    script = """
        type(0, 'A');
        const twin = new Story({ nodes: structuredClone([...s.nodes.values()].slice(1)), current: s.current });
        const theirs = twin.continueAt(); twin.grow(theirs.id, ' b');
        add(' c'); s.adopt([...twin.nodes.values()]);
        return [s.text(), s.text(theirs.id), s.nodes.size];"""
    assert await run(modules, script) == ["A c", "A b", 4]


async def test_random_changes_keep_tree_and_text_in_step(modules: Page) -> None:
    script = """
        let seed = 7; const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
        let text = ''; const seen = [];
        for (let i = 0; i < 400; i++) {
            const at = random(text.length + 1), removed = random(Math.min(9, text.length - at) + 1);
            const inserted = 'abcdef\\n'.repeat(2).slice(0, random(9));
            if (random(5) === 0) {
                s.grow(s.continueAt().id, inserted);
                text += inserted;
            } else {
                s.edit({ at, removed, inserted }, i * random(900));
                text = text.slice(0, at) + inserted + text.slice(at + removed);
            }
            if (s.text() !== text) return `step ${i}: expected ${text}, got ${s.text()}`;
            seen.push([s.current, text]);
        }
        const last = new Map(seen);
        for (const [id, was] of last) if (s.text(id) !== was) return `node ${id}: expected ${was}, got ${s.text(id)}`;
        return 'in step';"""
    assert await run(modules, script) == "in step"


async def test_the_difference_of_two_texts_turns_one_into_the_other(modules: Page) -> None:
    script = (
        "return [['', 'a'], ['aa', 'a'], ['the fox', 'the old fox'], ['abc', 'abc']].map(([a, b]) => difference(a, b))"
    )
    assert await run(modules, script) == [
        {"at": 0, "removed": 0, "inserted": "a"},
        {"at": 1, "removed": 1, "inserted": ""},
        {"at": 4, "removed": 0, "inserted": "old "},
        {"at": 3, "removed": 0, "inserted": ""},
    ]


@pytest.mark.parametrize(("before", "after"), [("😀", "😂"), ("😁😀", "😀"), ("a😀b", "a😂b"), ("😀", "😁😀")])
async def test_a_difference_never_cuts_a_character_in_half(modules: Page, before: str, after: str) -> None:
    script = f"""
        const [before, after] = {[before, after]!r};
        const {{ at, removed, inserted }} = difference(before, after);
        return [inserted.isWellFormed(), before.slice(0, at) + inserted + before.slice(at + removed) === after]"""
    assert await run(modules, script) == [True, True]


async def test_a_continuation_of_which_nothing_came_is_no_branch_to_go_to(modules: Page) -> None:
    steps = "type(0, 'A'); const refused = s.continueAt(); s.describe(refused.id, { reason: 'error' }); s.undo();"
    assert await run(modules, steps + "return [s.canRedo(), s.branches(s.current).length]") == [False, 0]


async def test_a_long_story_is_taken_in_whatever_order_its_steps_come(modules: Page) -> None:
    script = """
        for (let i = 0; i < 5000; i++) type(s.length(), "x", 0, i * 10000);
        const nodes = [...s.nodes.values()].filter((node) => node.parent !== null).reverse();
        const other = new Story({ nodes, current: s.current });
        return [other.text() === s.text(), other.nodes.size];
    """
    assert await run(modules, script) == [True, 5001]


async def test_steady_typing_is_a_step_every_two_hundred_characters_between_words(modules: Page) -> None:
    steps = "for (const [at, character] of [...'fox '.repeat(75)].entries()) type(at, character, 0, at);"
    lengths = await run(modules, steps + "return s.path().map((node) => node.inserted.length)")
    assert lengths == [203, 97]


async def test_steady_typing_is_a_step_every_half_a_minute(modules: Page) -> None:
    steps = "for (const [at, character] of [...'a fox so '.repeat(5)].entries()) type(at, character, 0, at * 1000);"
    lengths = await run(modules, steps + "return s.path().map((node) => node.inserted.length)")
    assert lengths == [32, 13]
