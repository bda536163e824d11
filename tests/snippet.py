"""A little code: what the small tokenizer learns from, and what many tests fill holes in."""

SNIPPET = """\
import os

def print_area(width, height):
    area = width * height
    if area > 100:
        print("größer als hundert 🙂", area)
    return area

class Counter:
    def __init__(self, start=0):
        self.value = start

    def add(self, amount):
        self.value += amount
        return self.value

for number in range(10):
    print(number, "→", print_area(number, 3))
"""
