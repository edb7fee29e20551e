"""Telling others how it goes: what goes wrong becomes messages to people; pings say elsewhere that all is well."""
