"""What is measured in a process of its own, with the interpreter of whoever is measured: standard library only."""
