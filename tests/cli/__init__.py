"""The commands as a user types them: real processes, real exit statuses."""
