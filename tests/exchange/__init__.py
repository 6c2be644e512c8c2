"""One request's life with a scripted provider: every step of it can be held, lost or cut."""
