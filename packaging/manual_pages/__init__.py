"""The manual pages and the shells' completion, made of csagent's own parser, settings and units."""
