"""The routes of /v1, thin: they check, ask the storage or the engine, and answer."""
