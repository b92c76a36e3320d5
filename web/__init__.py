"""The page and the HTTP and WebSocket interfaces: shows `core` to browsers and programs. See docs/protocol.md."""
