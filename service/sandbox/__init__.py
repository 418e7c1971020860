"""The only place where bytes of users are parsed: one fresh, confined process a task. See docs/service.md."""
