"""Jobs: durable workflows of DBOS, how they are sent and watched, and what keeps them going."""
