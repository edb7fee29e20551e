"""Automations: hearing, deciding and doing what the configuration says is to be done when something happens."""
