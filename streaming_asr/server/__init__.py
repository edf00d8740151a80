"""The asyncio shell: HTTP and WebSocket on one port."""
