"""What ``gpu.py`` is made of; ``plan`` says which parts there are."""
