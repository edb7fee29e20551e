"""The command line. One module per noun; nothing heavy is imported before it is needed."""
