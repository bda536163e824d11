"""A small stock list to try Diffill on. This is a copy: change what you like."""

import json


class Inventory:
    def __init__(self, path):
        self.path = path
        self.items = {}

    def add(self, name, count):
        if count < 0:
            raise ValueError("count must not be negative")
        self.items[name] = self.items.get(name, 0) + count

    def total(self):
        return

    def remove(self, name, count):
        if count < 0:
            <FILL>
        self.items[name] = self.items.get(name, 0) - count

    def load(self):
        with open(self.path) as f:
            self.items = json.load(f)

    def save(self):
        with open(self.path, "w") as f:
            <FILL>

    def __len__(self):
        return len(self.items)
