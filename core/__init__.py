"""Language models and storage: everything that the page, the bot and the trainer share."""
