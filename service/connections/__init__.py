"""Connections of callers: how many there may be, how long they may take, and what of HTTP/1.1 is refused."""
