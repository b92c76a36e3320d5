"""The Discord bot: commands, buttons and the live reply. It knows the core; the core knows nothing of it."""
