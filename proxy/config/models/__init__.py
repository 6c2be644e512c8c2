"""What may be written: one strict model per mapping. A field's description is its documentation everywhere."""
