"""What a configuration must not say although each value is well-formed by itself. All of it is told at once."""
