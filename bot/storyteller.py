"""Begins stories, goes on with them, takes steps back: what commands and buttons ask for, under the server's rules.

Every generation goes the way of all borders, through `core.writer`; this module decides whether it may, acknowledges in
time, and hands the stream to a live reply.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import discord

from core.errors import ClosedError, StoreError
from core.requests import Event, GenerationRequest, Limits, SamplingDefaults
from core.store import Store
from core.writer import Writer

from . import notes
from .buttons import story_buttons
from .live_reply import UNANSWERED, LiveReply, contents
from .places import DeletedError, OutOfReachError, Place, StoryMessages
from .replies import AWAITED, RefusedError, acknowledge, sentence, tell
from .rules import ServerRules, Usage
from .sampling import generation_request
from .settings import BotSettings
from .story import INTERRUPTED, RUNNING, SOURCE, Stories, Story, kept, kept_at_last
from .stream import Stream

log = logging.getLogger(__name__)

ACKNOWLEDGE_S = 0.25  # how long an acknowledgement waits, so that a refusal can be told in private
FINISH_S = 1.5  # how long a press waits for a story that has just ended to be kept

UNDONE = "It is undone, but Discord does not show so yet. What you press next goes on from there, and shows it."

Interaction = discord.Interaction[Any]
Defer = Callable[[], Awaitable[None]]
Preparing = Coroutine[Any, Any, "_Telling"]
CopiedShare = Callable[[str | None, str], Awaitable[float | None]]


@dataclass(slots=True)
class _Telling:
    """A story being written, or undone; no stream and no task yet means that it is about to begin."""

    story: Story
    stream: Stream | None = None
    task: asyncio.Task[Any] | None = None

    @property
    def is_writing(self) -> bool:
        return self.stream is not None and not self.stream.is_over


class Storyteller:
    """All stories of the bot."""

    def __init__(
        self,
        client: discord.Client,
        *,
        writer: Writer,
        store: Store,
        settings: BotSettings,
        defaults: SamplingDefaults,
        limits: Limits,
        copied_share: CopiedShare,
    ) -> None:
        self.stories = Stories(store)
        self._client, self._writer, self._store = client, writer, store
        self._settings, self._defaults, self._limits = settings, defaults, limits
        self._copied_share = copied_share
        self._usage = Usage(self._count_today)
        self._running: dict[str, _Telling] = {}
        self._beginning: dict[asyncio.Task[Any], str] = {}  # what people asked for and have no answer to yet, and who
        self._is_closing = False

    # ---- what people ask for

    async def begin(
        self,
        interaction: Interaction,
        prompt: str,
        *,
        is_private: bool = False,
        shown_from: int = 0,
        seed: int | None = None,
        **asked: float | None,
    ) -> None:
        """Answer a command with a new story."""
        place = Place.of(interaction, is_private=is_private)
        story = Story(
            user_key=self.user_key(interaction),
            guild_key=self.guild_key(interaction),
            prompt=prompt,
            shown_from=shown_from,
            place=place,
            asked={name: value for name, value in asked.items() if value is not None},
        )

        async def prepare() -> _Telling:
            return await self._prepare(interaction, story, seed=seed)

        async def defer() -> None:
            message_id = await _defer(interaction, is_private=is_private)
            place.message_ids, place.token_ids = [message_id], [message_id]

        await self._write(interaction, prepare(), defer)

    async def go_on(self, interaction: Interaction, story_id: str, *, again: bool = False) -> None:
        """Write on below a story, or write its last continuation `again`."""

        async def prepare() -> _Telling:
            story = await self._own_story(interaction, story_id)
            story.place.renewed_by(interaction)
            return await self._prepare(interaction, story, seed=story.asked.pop("seed", None), again=again)

        async def defer() -> None:
            await acknowledge(interaction)

        await self._write(interaction, prepare(), defer, again=again)

    async def undo(self, interaction: Interaction, story_id: str) -> None:
        """Take a story back to before its last continuation."""
        story = await self._own_story(interaction, story_id)
        shown = contents(story, notes.standing(story))
        self._refuse_running(story_id)  # Continue may have been pressed meanwhile
        self._running[story_id] = _Telling(story, task=asyncio.current_task())
        try:
            await acknowledge(interaction)
            place = story.place.renewed_by(interaction)
            story = await self.stories.step_back(story)
            story.place = place
            try:
                await self._show(story, interaction.followup, shown)
            except UNANSWERED as error:
                log.warning("an undone step is shown still story=%s error=%s", story_id, error)
                await tell(interaction, UNDONE)
        finally:
            del self._running[story_id]

    async def stop(self, interaction: Interaction, story_id: str) -> None:
        """End the writing of a story, or put right a message whose story is not being written any more."""
        telling = self._running.get(story_id)
        if telling is not None and telling.stream is not None and telling.is_writing:
            self._refuse_others(interaction, telling.story)
            await acknowledge(interaction)
            await telling.stream.stop()
            return
        story = await self._own_story(interaction, story_id)
        await acknowledge(interaction)
        story.place.renewed_by(interaction)
        self._refuse_running(story_id)  # Continue may have been pressed meanwhile
        if story.is_running:
            await self._interrupt(story)
        await self._show(story, interaction.followup)

    async def own_settings(self, interaction: Interaction, story_id: str) -> Story:
        """Return a story whose settings the person may change."""
        return await self._own_story(interaction, story_id, anywhere=True)

    async def change_settings(self, interaction: Interaction, story_id: str, asked: dict[str, Any]) -> None:
        """Set what the next continuations of a story get. Raises InputError out of range."""
        story = await self._own_story(interaction, story_id, anywhere=True)
        rules = await self._rules(interaction, is_private=story.place.is_private)
        story.asked = {name: value for name, value in asked.items() if value is not None}
        await self._request(story, story.text, rules, seed=None)
        await self.stories.save_details(story)

    async def forget(self, user_key: str) -> None:
        """Stop whatever a user is having written, also what has only been asked for."""
        beginning = [task for task, whose in self._beginning.items() if whose == user_key]
        await self._end(self._of(user_key), "cancelled", beginning)
        await self._end(self._of(user_key), "cancelled")  # what had only been asked for is being told now

    # ---- a stop and a start of the bot

    async def close(self) -> None:
        """Interrupt every story and show so, within the grace that config.toml gives."""
        self._is_closing = True
        await self._end(list(self._running.values()), "shutdown", self._beginning)

    async def recover(self) -> None:
        """Mark the stories that a bot now gone was writing, and offer Continue under them."""
        try:
            lost = await self._store.stories.running(SOURCE)
        except StoreError as error:
            log.error("lost stories say so only when their Stop is pressed error=%s", error)
            return
        for story_id in lost:
            try:
                story = await self.stories.load(story_id)
                is_another_bots = story.place.application_id != self._client.application_id
                if story_id in self._running or not story.is_running or is_another_bots:
                    continue
                await self._interrupt(story)
                await self._show(story)
                log.info("interrupted story recovered story=%s", story_id)
            except Exception:  # one lost message must not keep the others from being put right
                log.exception("an interrupted story could not be shown story=%s", story_id)

    # ---- within

    async def _interrupt(self, story: Story) -> None:
        """Mark a story that nobody is writing any more, whatever the store says."""
        story.reason = INTERRUPTED
        await self.stories.save(story)

    def user_key(self, interaction: Interaction) -> str:
        """Return the opaque key of the person who asks."""
        return self._store.opaque.key("user", interaction.user.id)

    def guild_key(self, interaction: Interaction) -> str | None:
        """Return the opaque key of the server, or None outside of servers."""
        return self._store.opaque.key("guild", interaction.guild_id) if interaction.guild_id else None

    async def server_rules(self, interaction: Interaction) -> ServerRules:
        """Return what holds where somebody asks."""
        guild_key = self.guild_key(interaction)
        values = await self._store.settings.get("guild", guild_key) if guild_key else {}
        return ServerRules.read(values, self._settings)

    async def _rules(self, interaction: Interaction, *, is_private: bool) -> ServerRules:
        rules = await self.server_rules(interaction)
        rules.check_place(interaction, is_private=is_private)
        rules.check_person(interaction)
        return rules

    async def _own_story(self, interaction: Interaction, story_id: str, *, anywhere: bool = False) -> Story:
        await self._finish_telling(interaction, story_id)
        story = await self.stories.load(story_id)
        self._refuse_others(interaction, story)
        pressed = interaction.message.id if interaction.message else None
        if not anywhere and pressed not in story.place.message_ids[-1:]:
            raise RefusedError("This story goes on in another message. Use the buttons under its last one.")
        return story

    def _of(self, user_key: str) -> list[_Telling]:
        return [telling for telling in self._running.values() if telling.story.user_key == user_key]

    def _refuse_others(self, interaction: Interaction, story: Story) -> None:
        if story.user_key != self.user_key(interaction):
            raise RefusedError("Only the author of a story can use its buttons. Begin your own with /write.")

    async def _finish_telling(self, interaction: Interaction, story_id: str) -> None:
        """Wait for the last saves of a story whose writing is over. Raises RefusedError while it is not."""
        telling = self._running.get(story_id)
        if telling is not None:
            self._refuse_others(interaction, telling.story)
            if telling.task is not None and not telling.is_writing:
                await asyncio.wait({telling.task}, timeout=FINISH_S)
        self._refuse_running(story_id)

    def _refuse_running(self, story_id: str) -> None:
        telling = self._running.get(story_id)
        if telling is None:
            return
        if telling.is_writing:
            raise RefusedError("This story is still being written. Press Stop first, or wait for its end.")
        raise RefusedError("This story is still being written, shown or kept. Please try again in a minute.")

    def _refuse_closing(self) -> None:
        if self._is_closing:
            raise ClosedError("No story can be begun now.")

    async def _end(self, tellings: list[_Telling], reason: str, beginning: Iterable[asyncio.Task[Any]] = ()) -> None:
        """End stories for `reason`, and wait until they say so, within the grace that config.toml gives.

        What comes too late is cancelled, and then still keeps its story.
        """
        await asyncio.gather(*(telling.stream.stop(reason) for telling in tellings if telling.stream))
        tasks = {telling.task for telling in tellings if telling.task} | set(beginning)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._settings.restart_grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _request(self, story: Story, prompt: str, rules: ServerRules, *, seed: Any) -> GenerationRequest:
        resolved = await self._store.settings.resolve(user_key=story.user_key, guild_key=story.guild_key)
        asked = story.asked if seed is None else story.asked | {"seed": seed}
        return generation_request(
            prompt,
            defaults=self._defaults,
            limits=self._limits,
            pace=self._settings.pace,
            resolved=resolved,
            asked=asked,
            rules=rules,
        )

    async def _write(
        self,
        interaction: Interaction,
        preparing: Preparing,
        defer: Defer,
        *,
        again: bool = False,
    ) -> None:
        """Write a story's next step, told in a task of its own, once it is prepared and acknowledged.

        A refusal in time is told in private; whatever takes longer is acknowledged meanwhile.
        """
        asked = asyncio.current_task()
        assert asked is not None
        self._beginning[asked] = self.user_key(interaction)
        asked.add_done_callback(self._beginning.pop)
        prepared = asyncio.create_task(preparing)
        await asyncio.wait({prepared}, timeout=ACKNOWLEDGE_S)
        try:
            if not prepared.done() or prepared.exception() is None:
                await defer()
        except BaseException:
            with contextlib.suppress(Exception):
                await self._give_up(await prepared)
            raise
        telling = await prepared
        if self._is_closing:
            await self._give_up(telling)
            self._refuse_closing()
        interaction.extras.pop(AWAITED, None)
        story, stream = telling.story, telling.stream
        assert stream is not None
        messages = StoryMessages(
            self._client, story.place, contents(story, notes.standing(story)), interaction.followup
        )
        story.begin_step(again=again)
        telling.task = asyncio.create_task(self._tell(interaction, story, stream, messages), name=f"story {story.id}")

    async def _prepare(self, interaction: Interaction, story: Story, *, seed: Any, again: bool = False) -> _Telling:
        """Begin to write a story's next step. Raises what the server's rules or the writer refuse it for."""
        rules = await self._rules(interaction, is_private=story.place.is_private)
        if story.is_kept and "max_tokens" in story.asked:  # a moderator may have lowered what was possible then
            story.asked["max_tokens"] = min(story.asked["max_tokens"], rules.longest)
        self._refuse_closing()
        self._refuse_running(story.id)
        telling = self._running[story.id] = _Telling(story)
        try:
            request = await self._request(story, story.text_before(again=again), rules, seed=seed)
            await self._usage.take(story.user_key, story.guild_key, rules)
            telling.stream = Stream(self._events(request, story, rules), seed=request.sampling.seed)
            await telling.stream.begun()
        except BaseException:
            await self._give_up(telling)
            raise
        return telling

    def _events(self, request: GenerationRequest, story: Story, rules: ServerRules) -> AsyncGenerator[Event, None]:
        return self._writer.write(
            request,
            source=SOURCE,
            user_key=story.user_key,
            guild_key=story.guild_key,
            checkpoint=rules.checkpoint,
            keep_text=rules.logs_prompts,
        )

    async def _give_up(self, telling: _Telling) -> None:
        """Forget a story's next step before any of it is told."""
        if telling.stream is not None:  # and so it was counted
            self._usage.give_back(telling.story.user_key, telling.story.guild_key)
            await telling.stream.stop()
        del self._running[telling.story.id]

    async def _tell(self, interaction: Interaction, story: Story, stream: Stream, messages: StoryMessages) -> None:
        """Show a story while it is written; whatever becomes of its messages, the stream ends and the story is kept."""
        reply = LiveReply(
            story,
            stream,
            messages,
            interval_s=self._settings.edit_interval_s,
            update=self._update,
        )
        is_deleted = False
        try:
            await reply.run()
        except DeletedError:
            is_deleted = True
        except OutOfReachError:
            await tell(interaction, "I can write no further here. Your story is kept: press Stop, and later Continue.")
        except Exception as error:  # a task's border
            await tell(interaction, sentence(error))
        finally:
            try:
                await stream.stop("shutdown")
                await kept_at_last(lambda: self._delete(story) if is_deleted else self._update(story, stream))
            finally:
                self._running.pop(story.id, None)

    async def _update(self, story: Story, stream: Stream) -> bool:
        """Bring a story up to what its stream has written, and keep it; False where the store is away."""
        story.step, story.seed, story.tokens = stream.text, stream.seed, stream.tokens
        story.checkpoint, story.prompt_tokens = stream.checkpoint, stream.prompt_tokens
        task = asyncio.current_task()
        is_cut_off = task is not None and task.cancelling() > 0  # its messages do not show its end: `recover` will
        story.reason = RUNNING if is_cut_off else stream.reason or RUNNING
        if stream.is_over and not story.facts:
            copied = None
            try:
                copied = await self._copied_share(stream.checkpoint, stream.text)
            except Exception:  # a number under a story must not keep it from being shown and kept
                log.exception("how much of a story is copied could not be told story=%s", story.id)
            story.facts = {"tokens_per_s": stream.tokens_per_s, "copied": copied}
        return await kept(self.stories.save(story))

    async def _delete(self, story: Story) -> bool:
        """Delete a story whose message was deleted; False where the store is away."""
        return await kept(self.stories.delete(story.id))

    async def _show(
        self, story: Story, followup: discord.Webhook | None = None, shown: list[str] | None = None
    ) -> None:
        """Make a story's messages say how it stands; `shown` is what they say now, where it stood elsewhere."""
        standing = contents(story, notes.standing(story))
        messages = StoryMessages(self._client, story.place, shown or standing, followup)
        try:
            await messages.show(standing, story_buttons(story))
        except DeletedError:
            await self._delete(story)
        except OutOfReachError:
            log.warning("a story is out of reach story=%s", story.id)
        else:
            await kept(self.stories.save_details(story))

    async def _count_today(self, user_key: str, guild_key: str | None) -> int:
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return await self._store.log.count(user_key=user_key, guild_key=guild_key, since=midnight)


async def _defer(interaction: Interaction, *, is_private: bool) -> int:
    """Acknowledge a command and return the id of the message that will hold its answer."""
    interaction.extras[AWAITED] = not is_private
    response = await acknowledge(interaction, ephemeral=is_private, thinking=True)
    if response is not None and response.message_id is not None:
        return response.message_id
    return (await interaction.original_response()).id
