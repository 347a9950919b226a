"""Commands beside the server: `pymcd NAME`. Each is a module, imported when it is run."""
