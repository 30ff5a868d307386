"""The program that builds the book: notebooks executed, pages staged and filled, Jupyter Book run, all of it checked."""
