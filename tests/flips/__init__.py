"""One changed bit in each kind of file that the library writes: noticed, healed or harmless."""
