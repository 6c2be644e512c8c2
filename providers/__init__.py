"""Presets: one YAML file per provider, each with its own examples and sources. ``docs/configuration.md`` says how to write one."""
