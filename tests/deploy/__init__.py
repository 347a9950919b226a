"""The files of docs/deploy are right: their form, and what they say of pymcd."""
