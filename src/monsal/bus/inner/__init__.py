"""What the bus is made of and nobody outside needs: waiting, timed rounds of calls, the owner loop, re-execution."""
