"""What is there: the scanner, its thread, change notices and what hooks noted.

It tells what it saw and decides nothing. It may read names, sizes and the lines that say whose a file is.
"""
