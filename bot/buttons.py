"""The buttons under a story. All they need stands in their ids and in the store: they work after a restart."""

import re
from typing import TYPE_CHECKING, Any, Literal, Self

import discord

from .replies import explained
from .settings_modal import SettingsModal
from .story import Story

if TYPE_CHECKING:
    from .storyteller import Storyteller

Action = Literal["stop", "continue", "retry", "undo", "settings"]

_LABELS: dict[Action, str] = {
    "stop": "Stop",
    "continue": "Continue",
    "retry": "Retry",
    "undo": "Undo",
    "settings": "Settings",
}


class StoryButton(
    discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]],
    template=r"story:(?P<story>[0-9a-f]{32}):(?P<action>stop|continue|retry|undo|settings)",
):
    """One button of one story."""

    def __init__(self, story_id: str, action: Action, *, disabled: bool = False) -> None:
        style = {"stop": discord.ButtonStyle.danger, "continue": discord.ButtonStyle.primary}.get(
            action, discord.ButtonStyle.secondary
        )
        custom_id = f"story:{story_id}:{action}"
        super().__init__(discord.ui.Button(label=_LABELS[action], style=style, custom_id=custom_id, disabled=disabled))
        self.story_id, self.action = story_id, action

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(match["story"], match["action"])  # type: ignore[arg-type]  # the template allows only these

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        async with explained(interaction):
            await self._act(interaction, interaction.client.storyteller)

    async def _act(self, interaction: discord.Interaction[Any], storyteller: "Storyteller") -> None:
        match self.action:
            case "stop":
                await storyteller.stop(interaction, self.story_id)
            case "continue":
                await storyteller.go_on(interaction, self.story_id)
            case "retry":
                await storyteller.go_on(interaction, self.story_id, again=True)
            case "undo":
                await storyteller.undo(interaction, self.story_id)
            case "settings":
                story = await storyteller.own_settings(interaction, self.story_id)
                await interaction.response.send_modal(SettingsModal(story))


def story_buttons(story: Story) -> discord.ui.View:
    """Return the buttons that fit how a story stands."""
    view = discord.ui.View(timeout=None)
    if story.is_running:
        return view.add_item(StoryButton(story.id, "stop"))
    has_step = story.parent_id is not None
    view.add_item(StoryButton(story.id, "continue"))
    view.add_item(StoryButton(story.id, "retry", disabled=not has_step))
    view.add_item(StoryButton(story.id, "undo", disabled=not has_step))
    return view.add_item(StoryButton(story.id, "settings"))


def story_id_of(message: discord.Message) -> str | None:
    """Return the id of the story whose buttons a message has, or None."""
    for row in message.components:
        for item in getattr(row, "children", []):
            match = StoryButton.__discord_ui_compiled_template__.fullmatch(getattr(item, "custom_id", None) or "")
            if match is not None:
                return match["story"]
    return None
